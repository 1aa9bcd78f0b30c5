"""Greedy Gaussian probing: which few units tell most about a property, in bits."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracemend.arrays import Floats, Indices
from tracemend.errors import NeuronError
from tracemend.models import tiny
from tracemend.neurons.neuron_method import NeuronMethod
from tracemend.neurons.result import NeuronsResult
from tracemend.neurons.units import Units
from tracemend.neurons.words import Property, tiny_treebank
from tracemend.progress import Progress

Covariance = Literal["mean", "map"]

_CHUNK = 256
_DRAWS = 5
# Of a unit that hardly varies within a class; that of all words is 1.
_LEAST_VARIANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Gaussians:
    """A Gaussian of the units for each class, float64: any subset's is a slice of it.

    Attributes:
        mean: [classes, d].
        covariance: [classes, d, d].
        log_prior: of the classes, in nats [classes].
    """

    mean: Tensor
    covariance: Tensor
    log_prior: Tensor

    @classmethod
    def fit(cls, x: Tensor, y: Indices, classes: int, *, covariance: Covariance = "mean") -> Gaussians:
        """Fit with a normal-inverse-Wishart prior: diagonal of the class's variances, d + 2 degrees of freedom.

        With S the class's empirical covariance over its n words and L = diag(S) + n S, the posterior mean is
        L / (n + 1) and the mode, which was published, L / (n + 2 d + 4).

        Args:
            x: standardised activations [n, d].
            y: label indices [n].
            classes: how many labels there are; each needs two words.
            covariance: ``mean`` or ``map``.

        Raises:
            NeuronError: a class has fewer than two words, or no such estimate.
        """
        if covariance not in ("mean", "map"):
            raise NeuronError(f"covariance is {covariance!r}; it is 'mean' (of the posterior) or 'map' (its mode).")
        counts = np.bincount(y, minlength=classes)
        if counts.min() < 2:
            raise NeuronError(f"class {int(counts.argmin())} has {counts.min()} words; a Gaussian needs two.")
        d = x.shape[1]
        means, covariances = [], []
        for c in range(classes):
            of = x[torch.from_numpy(y == c)].double()
            centred = of - of.mean(0)
            scatter = centred.T @ centred
            over = len(of) + (1 if covariance == "mean" else 2 * d + 4)
            found = (scatter + (scatter.diagonal() / len(of)).diag()) / over
            means.append(of.mean(0))
            covariances.append(found + (_LEAST_VARIANCE - found.diagonal()).clamp_min(0).diag())
        shares = torch.from_numpy(counts / counts.sum())
        return cls(torch.stack(means), torch.stack(covariances), shares.log())

    def nested(self, x: Tensor, order: Indices) -> Tensor:
        """Log-probabilities of the classes given the first 1, 2, ... units of an order [len(order), n, classes].

        One triangular solve a class serves all lengths, since a Cholesky factor's corner is the corner's factor.
        """
        at = torch.from_numpy(np.ascontiguousarray(order))
        joint = []
        for mean, covariance in zip(self.mean, self.covariance, strict=True):
            factor = torch.linalg.cholesky(covariance[at][:, at])
            z = torch.linalg.solve_triangular(factor, (x[:, at].double() - mean[at]).T, upper=False)
            logs = factor.diagonal().log() + 0.5 * math.log(2 * math.pi)
            joint.append(-(0.5 * z.square() + logs[:, None]).cumsum(0))
        return (torch.stack(joint, -1) + self.log_prior).log_softmax(-1)


@dataclass(frozen=True, eq=False)
class Chosen:
    """Units in the order in which they were chosen.

    Attributes:
        order: chosen units, then all others, by what each would have added last.
        gains: what each chosen one added to the mean log-probability of the labels, in bits.
    """

    order: Indices
    gains: Floats


def greedy(
    gaussians: Gaussians, x: Tensor, y: Indices, dims: int, *, alive: Indices, progress: Progress = Progress()
) -> Chosen:
    """Choose units one after another, each time the one with the highest mean log p(y | chosen, it).

    Every candidate is tried in every round, but none needs a factorisation: conditioned on the chosen units, a
    candidate's density is one-dimensional, with a residual and a variance that one rank-one update a round keeps up to
    date. A round costs O(classes n d), where a loop over candidates costs O(classes n d dims^2).

    Args:
        gaussians: of all units.
        x: standardised activations [n, d] by which units are chosen.
        y: their label indices [n].
        dims: how many to choose.
        alive: units that may be chosen.
        progress: shown.

    Example:
        >>> found = greedy(Gaussians.fit(x, y, 2), x, y, 10, alive=np.arange(384))
        >>> found.order[:10], found.gains
    """
    at = torch.from_numpy(alive)
    residual = x[:, at].double()[None] - gaussians.mean[:, None, at]  # [classes, n, d]
    schur = gaussians.covariance[:, at][:, :, at].clone()
    base = gaussians.log_prior[:, None].expand(-1, len(x)).clone()  # [classes, n]
    target = torch.from_numpy(y)
    before = float(base.gather(0, target[None]).mean())
    chosen: list[int] = []
    gains: list[float] = []
    free = torch.ones(len(at), dtype=torch.bool)
    scores = torch.zeros(len(at), dtype=torch.float64)
    for _ in progress.track(range(min(dims, len(at))), task="choose units"):
        scores = _scores(residual, schur, base, target).masked_fill(~free, -torch.inf)
        best = int(scores.argmax())
        gains.append((float(scores[best]) - before) / math.log(2))
        before = float(scores[best])
        chosen.append(best)
        free[best] = False
        variance = schur[:, best, best]
        base += -0.5 * (
            residual[:, :, best].square() / variance[:, None] + variance.log()[:, None] + math.log(2 * math.pi)
        )
        slope = schur[:, best] / variance[:, None]
        for c in range(len(residual)):
            residual[c].addr_(residual[c, :, best].clone(), slope[c], alpha=-1)
            schur[c].addr_(schur[c, best].clone(), slope[c], alpha=-1)
    rest = [int(i) for i in torch.argsort(scores, descending=True, stable=True) if free[i]]
    return Chosen(alive[np.array(chosen + rest, dtype=np.int64)], np.array(gains))


def _scores(residual: Tensor, schur: Tensor, base: Tensor, target: Tensor) -> Tensor:
    """Mean log-probability of the labels with each candidate added [d]."""
    # What is chosen already has a variance of nothing; its score is not used.
    variance = schur.diagonal(dim1=1, dim2=2).clamp_min(1e-12)[:, None]
    constant = variance.log()
    total = torch.zeros(residual.shape[2], dtype=torch.float64)
    for rows in torch.arange(residual.shape[1]).split(_CHUNK):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        joint = base[:, part, None] - 0.5 * (residual[:, part].square() / variance + constant)
        true = joint.gather(0, target[part][None, :, None].expand(1, -1, joint.shape[2]))[0]
        total += (true - joint.logsumexp(0)).sum(0)
    return total / residual.shape[1]


@dataclass(frozen=True, kw_only=True)
class GaussianResult(NeuronsResult):
    """A row a number of units: ``dims``, ``unit`` (the one added), ``gain_bits`` (what it added in training),
    ``mi_bits``, ``nmi`` and ``accuracy`` on test, and ``nmi`` of the controls."""

    def figure(self) -> Any:
        """Normalised mutual information by number of units, beside the controls."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rows["dims"], self.rows["nmi"], color="#2f6f8f", marker=".", label="chosen units")
        for column, style in (("random_units", "-."), ("random_weights", "--"), ("control_task", ":")):
            axes.plot(self.rows["dims"], self.rows[column], style, color="#8a8a8a", label=column.replace("_", " "))
        axes.axhline(0, color="#c9c9c9", lw=0.8)
        axes.set(xlabel="units", ylabel="share of the label's entropy", title=str(self.config.get("task", "")))
        axes.legend(fontsize="small")
        return figure


@dataclass(frozen=True, kw_only=True)
class GaussianRanking(NeuronMethod[GaussianResult]):
    """Which few units tell most about a property, and how many bits, by greedy Gaussian probing.

    The units' activations h are taken as Gaussian in each class, p(h, y) = p(y) N(h; mu_y, Sigma_y). Since any subset's
    density is a slice, one fit serves all subsets (Torroba Hennigen, Williams and Cotterell 2020, arXiv 2010.02812).
    Units are added one by one, each time the one that raises the mean log p(y | h_C) on training words most. On test
    words, with H(y) the entropy of their labels,

        MI >= H(y) + mean log2 p(y | h_C)  bits        NMI = MI / H(y)

    The bound may be below zero: then the Gaussians mislead. The published covariance, the posterior's mode, does so
    where a class has fewer than about 2 d words; the posterior's mean is the default here.

    Metrics, with ``at`` units: ``mi_bits``, ``nmi``, ``accuracy``. Controls: ``random_weights``, the same search in the
    untrained network; ``random_units``, the mean of five random sets; ``control_task``, the chosen units on random
    labels of word types; ``majority``.

    Attributes:
        dims: units to choose.
        at: number of units that metrics are about.
        covariance: ``mean`` of the posterior, or ``map``, its mode, as published.
        search_items: training words that the choice looks at; the fit takes all.

    Raises:
        NeuronError: what :class:`NeuronMethod` refuses, or more units asked for than vary.

    Example:
        >>> found = GaussianRanking(task="Number", among="NOUN").run(load("minilm"), read_treebank("ud_ewt"))
        >>> found.table()[["dims", "unit", "nmi", "random_weights"]]
    """

    name: ClassVar[str] = "neurons.gaussian"
    at_least: ClassVar = {"search_items": 2}

    dims: int = 50
    at: int = 10
    covariance: Covariance = "mean"
    search_items: int = 4_000

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> GaussianResult:
        """Choose the units of a site.

        Args:
            model: a :class:`LanguageModel`; its weights are not touched.
            data: a :class:`Treebank`.
            progress: shown.
        """
        began = time.perf_counter()
        if not 1 <= self.at <= self.dims:
            raise NeuronError(f"at is {self.at} and dims {self.dims}; expected 1 <= at <= dims.")
        words, units, fresh = self.read_units(model, data, progress)
        if self.dims > min(len(units.alive), len(fresh.alive)):
            raise NeuronError(
                f"{self.dims} units are asked for and {len(units.alive)} of {self.site} vary; lower dims."
            )
        chosen, found = self._searched(words, units, progress)
        _, untrained = self._searched(words, fresh, progress)
        y, test = words.parts["train"].y, words.parts["test"]
        fitted = Gaussians.fit(units.x["train"], y, words.classes, covariance=self.covariance)
        rng = np.random.default_rng(self.seed)
        drawn = [rng.permutation(units.alive)[: self.dims] for _ in range(_DRAWS)]
        random = np.mean([_figures(fitted, units.x["test"], test.y, order) for order in drawn], axis=0)
        random[2] *= words.known_share
        control = self._control(words, units, chosen.order[: self.dims])
        columns = {
            "dims": np.arange(1, self.dims + 1),
            "unit": chosen.order[: self.dims],
            "gain_bits": chosen.gains,
            "mi_bits": found[0],
            "nmi": found[1],
            "accuracy": found[2],
            "random_weights": untrained[1],
            "random_units": random[1],
            "control_task": control[1],
        }
        i = self.at - 1
        names = ("mi_bits", "nmi", "accuracy")
        arms = {"random_weights": untrained, "random_units": random, "control_task": control}
        controls: dict[str, dict[str, float]] = {
            arm: dict(zip(names, of[:, i].tolist(), strict=True)) for arm, of in arms.items()
        }
        controls["majority"] = {"accuracy": words.majority}
        facts, said = self.about(model, words, units)
        facts["seconds"] = round(time.perf_counter() - began, 1)
        return GaussianResult(
            metrics=dict(zip(names, found[:, i].tolist(), strict=True)),
            controls=controls,
            config=self.config,
            rows=pd.DataFrame(columns),
            findings=[*self._findings(found, arms), *said],
            facts=facts,
        )

    def _searched(self, words: Property, units: Units, progress: Progress) -> tuple[Chosen, Floats]:
        x, y = units.x["train"], words.parts["train"].y
        fitted = Gaussians.fit(x, y, words.classes, covariance=self.covariance)
        some = np.sort(np.random.default_rng(self.seed).permutation(len(y))[: self.search_items])
        chosen = greedy(fitted, x[torch.from_numpy(some)], y[some], self.dims, alive=units.alive, progress=progress)
        found = _figures(fitted, units.x["test"], words.parts["test"].y, chosen.order[: self.dims])
        # Bits are about the labels that training has; accuracy is over all test words.
        found[2] *= words.known_share
        return chosen, found

    def _control(self, words: Property, units: Units, order: Indices) -> Floats:
        # Few word types: a label of the control task may have too few words, or none.
        y, test = words.parts["train"].control, words.parts["test"].control
        counts = np.bincount(y, minlength=words.classes)
        kept = np.flatnonzero(counts >= 2)
        if len(kept) < 2:
            return np.full((3, len(order)), np.nan)
        place = np.full(words.classes, -1, dtype=np.int64)
        place[kept] = np.arange(len(kept))
        inside, tested = place[y] >= 0, place[test] >= 0
        x = units.x["train"][torch.from_numpy(inside)]
        fitted = Gaussians.fit(x, place[y[inside]], len(kept), covariance=self.covariance)
        return _figures(fitted, units.x["test"][torch.from_numpy(tested)], place[test[tested]], order)

    def _findings(self, found: Floats, arms: dict[str, Floats]) -> list[str]:
        i = self.at - 1
        said = [
            f"{self.at} units of {self.site} hold {found[0, i]:.2f} bits about {self.task}, {found[1, i]:.2f} of its "
            f"entropy; in the untrained network {arms['random_weights'][1, i]:.2f}, random units "
            f"{arms['random_units'][1, i]:.2f}."
        ]
        if found[1, i] <= 0:
            said.append("The bound is not above zero: these units are not shown to tell anything.")
        elif found[1, i] <= arms["random_weights"][1, i]:
            said.append("Untrained units tell as much: this is no evidence of what the model has learnt.")
        return said

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A made-up grammar and a tiny encoder."""
        return cls(dims=4, at=2, train_items=150, test_items=50, fewest=5), tiny("bert"), tiny_treebank()


def _figures(fitted: Gaussians, x: Tensor, y: Indices, order: Indices) -> Floats:
    """MI in bits, NMI and accuracy with 1, 2, ... units [3, len(order)]."""
    log = fitted.nested(x, order)
    shares = np.bincount(y) / len(y)
    entropy = float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum())
    target = torch.from_numpy(y)
    bits = entropy + log.gather(-1, target[None, :, None].expand(len(order), -1, 1)).mean((1, 2)).numpy() / math.log(2)
    accuracy = (log.argmax(-1) == target).double().mean(1).numpy()
    return np.stack([bits, bits / entropy if entropy else np.full_like(bits, np.nan), accuracy])
