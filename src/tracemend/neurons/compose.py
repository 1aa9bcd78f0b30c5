"""What a unit stands for, as a formula of features of words."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tracemend.arrays import Floats, Masks
from tracemend.data import Sentence, Treebank
from tracemend.errors import NeuronError
from tracemend.evaluate import gap_interval, holm, mean_interval
from tracemend.methods import Method
from tracemend.models import LanguageModel, random_weights, tiny
from tracemend.models.representations import Pooling
from tracemend.neurons.features import Features
from tracemend.neurons.formulas import Formula, by_chance, iou, search
from tracemend.neurons.result import NeuronsResult
from tracemend.neurons.units import check_units, vectors
from tracemend.neurons.words import tiny_treebank
from tracemend.progress import Progress

# Held-out IoU above which a unit counts as explained, after the measurements in the method's page.
EXPLAINED = 0.2
_FEWEST_ACTIVE = 10


@dataclass(frozen=True, kw_only=True)
class CompositionResult(NeuronsResult):
    """A row a unit, the best explained first.

    Columns: ``unit``; ``formula``; ``iou`` on held-out text; ``train_iou``; ``iou_1``, held out, of the best single
    feature; ``chance``, held out, with the unit's mask turned round the text; ``p`` of that, Holm's over the units;
    ``fires``, the share of held-out words where the unit does. ``facts["by_length"]`` has means over units.
    """

    def figure(self) -> Any:
        """IoU by length of formula in training and held out, beside the controls' held out."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        lengths = self.facts["by_length"]
        at = np.arange(1, len(lengths["held_out"]) + 1)
        styles = {"train": ("#2f6f8f", ":"), "held_out": ("#2f6f8f", "-"), "random_weights": ("#8a8a8a", "--"),
                  "shuffled": ("#b07d2b", "-.")}  # fmt: skip
        for name, (colour, line) in styles.items():
            axes.plot(at, lengths[name], line, color=colour, marker="o", ms=3, label=name.replace("_", " "))
        axes.set(xlabel="features in the formula", ylabel="IoU, mean over units", xticks=at, ylim=(0, None))
        axes.legend(fontsize="small")
        return figure


@dataclass(frozen=True, kw_only=True)
class Composition(Method[CompositionResult]):
    """A formula for each unit: where on text it is active, in features of words (Mu and Andreas 2020).

    A unit fires on the words with its highest ``top`` share of activations; a feature is a tag, a morphological one, a
    form, a lemma, or NEIGHBOURS (``near=``: a lemma or one of the five nearest by input embedding). A beam search
    (arXiv 2006.14032) joins features by OR, AND and AND NOT so that the formula F holds where the unit U fires,

        IoU = | U and F | / | U or F |        times penalty^(features - 1)

    on training words. The threshold and the formula then stay, and IoU is measured on other text: what the search fits
    in training is no explanation. The unit's mask turned round the text gives the chance level and a p.

    Metrics: ``iou`` (held out, mean over units), ``train_iou``, ``iou_1`` (held out, single features), ``explained``
    (share of units with a held-out IoU above 0.2). Controls, the same figures: ``random_weights``, the same search for
    units of the untrained network; ``shuffled``, for the units' masks with the words in random order.

    Attributes:
        site: whose units; the neurons of an MLP for instance.
        pooling: of a word's tokens.
        units: which; by default ``neurons`` random ones that vary.
        neurons: how many.
        length: most features of a formula.
        beam: formulas that go on to the next length.
        penalty: for each feature after the first; 1 is none.
        top: share of training words on which a unit fires.
        features: forms, and lemmas, at most, the most frequent.
        fewest: words of training of which a feature must hold.
        near: whether NEIGHBOURS of lemmas are features.
        train_items: words in which formulas are sought; whole sentences at random.
        test_items: words on which they are measured.
        draws: turns for the chance level; with Holm's p over n units fewer than 20 n cannot show anything.

    Raises:
        NeuronError: data or model of another kind, numbers out of range, a unit that the site lacks, that is named
            twice or that never varies, too few words for units to fire on, or no feature.

    Example:
        >>> found = Composition(site="blocks.2.mlp.hook_post").run(load("minilm"), read_treebank("ud_ewt"))
        >>> found.table()[["unit", "formula", "iou", "chance", "p"]]
    """

    name: ClassVar[str] = "neurons.compose"
    inputs: ClassVar[str] = "Treebank"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder"})
    at_least: ClassVar = dict.fromkeys(
        ("neurons", "length", "beam", "features", "fewest", "draws", "train_items", "test_items"), 1
    )

    site: str = "blocks.1.mlp.hook_post"
    pooling: Pooling = "mean"
    units: tuple[int, ...] = ()
    neurons: int = 60
    length: int = 3
    beam: int = 10
    penalty: float = 1.0
    top: float = 0.02
    features: int = 200
    fewest: int = 20
    near: bool = True
    train_items: int = 10_000
    test_items: int = 5_000
    draws: int = 2_000

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> CompositionResult:
        """Explain units of a site.

        Args:
            model: a :class:`LanguageModel`; its weights are not touched.
            data: a :class:`Treebank`.
            progress: shown.
        """
        began = time.perf_counter()
        self._check(model, data)
        parts = data.split(seed=self.seed)
        train = parts["train"].sample(self.train_items, seed=self.seed).sentences
        test = parts["test"].sample(self.test_items, seed=self.seed).sentences
        neighbours = model if self.near else None
        known = Features.of_words(train, test, fewest=self.fewest, most=self.features, model=neighbours)
        if not known.names:
            raise NeuronError(f"no feature holds of {self.fewest} words of training; take more words, or lower fewest.")
        fires = self._fires(model, train, test, known, progress)
        fresh = random_weights(model, seed=self.seed + 1)
        untrained = self._fires(fresh, train, test, known, progress, chosen=len(fires.units))
        rng = np.random.default_rng(self.seed)
        shuffled = _Fires(
            fires.units,
            np.stack([rng.permutation(mask) for mask in fires.train]),
            np.stack([rng.permutation(mask) for mask in fires.test]),
        )
        arms = {"held_out": fires, "random_weights": untrained, "shuffled": shuffled}
        found = {arm: self._searched(of, known, progress, arm) for arm, of in arms.items()}
        own = found["held_out"]
        rows = self._rows(fires, known, own, rng)
        lengths = {arm: of.test.mean(0).tolist() for arm, of in found.items()} | {"train": own.train.mean(0).tolist()}
        figures = {arm: of.figures for arm, of in found.items()}
        facts = {
            "model": model.name, "model_fingerprint": model.fingerprint, "site": self.site, "units": fires.width,
            "features": len(known.names), "n_train": fires.train.shape[1], "n_test": fires.test.shape[1],
            "by_length": lengths, "seconds": round(time.perf_counter() - began, 1),
        }  # fmt: skip
        return CompositionResult(
            metrics=figures.pop("held_out"),
            controls=figures,
            config=self.config,
            rows=rows,
            findings=self._findings(rows, found),
            facts=facts,
        )

    def _check(self, model: Any, data: Any) -> None:
        if not isinstance(model, LanguageModel):
            raise NeuronError(f"{self.name} takes a LanguageModel, not {type(model).__name__}; load one first.")
        if not isinstance(data, Treebank):
            raise NeuronError(
                f"{self.name} takes a Treebank, not {type(data).__name__}; read one with tracemend.data.read_treebank."
            )
        if not 0 < self.top < 0.5 or not 0 < self.penalty <= 1:
            raise NeuronError(
                f"top is {self.top} and penalty {self.penalty}; expected 0 < top < 0.5, 0 < penalty <= 1."
            )

    def _fires(
        self,
        model: LanguageModel,
        train: Sequence[Sentence],
        test: Sequence[Sentence],
        known: Features,
        progress: Progress,
        *,
        chosen: int = 0,
    ) -> _Fires:
        """Where units fire; ``chosen`` random ones of an untrained network, else those that are asked for."""
        of = vectors(model, [s.words for s in (*train, *test)], self.site, pooling=self.pooling, progress=progress)
        x = torch.cat(of).numpy()
        if not np.isfinite(x).all():
            raise NeuronError("some activations are not finite; the model has diverged, or the site overflows.")
        n = known.train.shape[1]
        threshold = np.quantile(x[:n], 1 - self.top, axis=0)
        fires = (x > threshold).T
        active = fires[:, :n].sum(1)
        if not chosen:
            check_units(self.units, len(fires), self.site)
        silent = [unit for unit in self.units if not chosen and active[unit] < _FEWEST_ACTIVE]
        if silent:
            raise NeuronError(
                f"unit {silent[0]} fires on {active[silent[0]]} of {n} words of training, and {_FEWEST_ACTIVE} are "
                "needed; it is dead or constant, or there are too few words: take more, or raise top."
            )
        able = np.flatnonzero(active >= _FEWEST_ACTIVE)
        if not len(able):
            raise NeuronError(
                f"no unit of {self.site} fires on {_FEWEST_ACTIVE} of {n} words of training; take more words, or raise "
                "top."
            )
        drawn = np.sort(np.random.default_rng(self.seed).permutation(able)[: chosen or self.neurons])
        units = np.array(self.units, dtype=np.int64) if self.units and not chosen else drawn
        return _Fires(units, fires[units, :n], fires[units, n:], len(fires))

    def _searched(self, fires: _Fires, known: Features, progress: Progress, arm: str) -> _Searched:
        formulas, train, test = [], [], []
        for mask, later in progress.track(
            list(zip(fires.train, fires.test, strict=True)), task=f"compose ({arm.replace('_', ' ')})"
        ):
            best = search(mask, known.train, length=self.length, beam=self.beam, penalty=self.penalty)
            formulas.append(best[-1])
            train.append([float(iou(mask, one.mask(known.train))) for one in best])
            test.append([float(iou(later, one.mask(known.test))) for one in best])
        return _Searched(formulas, np.array(train), np.array(test))

    def _rows(self, fires: _Fires, known: Features, own: _Searched, rng: np.random.Generator) -> pd.DataFrame:
        rows = []
        for i, (unit, formula) in enumerate(zip(fires.units.tolist(), own.formulas, strict=True)):
            mask = fires.test[i]
            chance, p = by_chance(mask, formula.mask(known.test), draws=self.draws, rng=rng)
            rows.append(
                {"unit": unit, "formula": formula.text(known.names), "iou": own.test[i, -1],
                 "train_iou": own.train[i, -1], "iou_1": own.test[i, 0], "chance": chance, "p": p,
                 "fires": mask.mean()}
            )  # fmt: skip
        table = pd.DataFrame(rows)
        table["p"] = holm(table["p"])
        return table.sort_values("iou", ascending=False, kind="stable").reset_index(drop=True)

    def _findings(self, rows: pd.DataFrame, found: dict[str, _Searched]) -> list[str]:
        own, fresh, shuffled = (found[arm] for arm in ("held_out", "random_weights", "shuffled"))
        first = rows.iloc[0]
        said = [
            f"Unit {first['unit']} is the best explained: {first['formula']}, IoU {first['iou']:.2f} on other text "
            f"({first['train_iou']:.2f} in training, {first['chance']:.2f} by chance).",
            f"{own.figures['explained']:.0%} of {len(rows)} units have an IoU above {EXPLAINED} on other text; "
            f"{fresh.figures['explained']:.0%} in the untrained network, {shuffled.figures['explained']:.0%} shuffled.",
        ]
        # Units of two networks: either mean is one of a sample.
        between = gap_interval(own.test[:, -1], fresh.test[:, -1], seed=self.seed)
        verb = "is above" if between[0] > 0 else "is not shown to be above"
        said.append(
            f"The mean IoU, {own.figures['iou']:.3f}, {verb} that of the untrained network, "
            f"{fresh.figures['iou']:.3f}: {own.figures['iou'] - fresh.figures['iou']:+.3f} "
            f"({between[0]:+.3f} to {between[1]:+.3f})."
        )
        gain = own.test[:, -1] - own.test[:, 0]
        low, high = mean_interval(gain, seed=self.seed)
        verb = "add" if low > 0 else "are not shown to add"
        said.append(f"Further features {verb} to the best single one: {gain.mean():+.3f} ({low:+.3f} to {high:+.3f}).")
        lost = int((rows["p"] >= 0.05).sum())
        if lost:
            said.append(f"{lost} of {len(rows)} formulas are not shown to be better than chance (Holm's p >= 0.05).")
        return said

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A made-up grammar and a tiny encoder."""
        method = cls(neurons=4, length=2, train_items=150, test_items=60, fewest=5, top=0.1, draws=20, features=10)
        return method, tiny("bert"), tiny_treebank()


@dataclass(frozen=True, eq=False)
class _Fires:
    """Where units fire: on training words [units, n] and on test words [units, m]; how many the site has."""

    units: npt.NDArray[np.int64]
    train: Masks
    test: Masks
    width: int = 0


@dataclass(frozen=True, eq=False)
class _Searched:
    """The longest formula of each unit; IoU of each length in training and held out [units, length]."""

    formulas: list[Formula]
    train: Floats
    test: Floats

    @property
    def figures(self) -> dict[str, float]:
        return {
            "iou": float(self.test[:, -1].mean()),
            "train_iou": float(self.train[:, -1].mean()),
            "iou_1": float(self.test[:, 0].mean()),
            "explained": float((self.test[:, -1] > EXPLAINED).mean()),
        }
