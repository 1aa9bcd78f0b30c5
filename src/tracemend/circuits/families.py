"""Families of units: which neuron is for a changed text what another one is for the text as it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tracemend.arrays import Floats
from tracemend.circuits.activation_store import site_activations
from tracemend.circuits.circuit import Circuit
from tracemend.circuits.tokens import ids_of
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError, did_you_mean
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel, random_weights, site, tiny
from tracemend.progress import Progress

Ints = npt.NDArray[np.integer]
# Pairs without which half of them says nothing of a correlation.
_FEWEST = 20
_SWAPPED = (
    ("he", "she"), ("his", "her"), ("himself", "herself"), ("man", "woman"), ("men", "women"), ("boy", "girl"),
    ("boys", "girls"), ("father", "mother"), ("brother", "sister"), ("son", "daughter"), ("husband", "wife"),
    ("uncle", "aunt"), ("king", "queen"), ("mr", "mrs"), ("dad", "mom"), ("male", "female"), ("guy", "lady"),
)  # fmt: skip
_OTHER = {a: b for pair in _SWAPPED for a, b in (pair, pair[::-1])}


def other_case(text: str) -> str:
    """Small letters as capitals, and capitals as small letters."""
    return text.swapcase()


def other_gender(text: str) -> str:
    """Words for men and boys as those for women and girls, and back.

    Example:
        >>> other_gender("He asked his sister.")
        'She asked her brother.'
    """

    def swapped(found: re.Match[str]) -> str:
        word = found.group()
        other = _OTHER.get(word.lower(), word)
        return other.capitalize() if word[0].isupper() and other != word else other

    return re.sub(r"[A-Za-z]+", swapped, text)


# Each undoes itself on the texts that it is given.
TRANSFORMS: dict[str, Callable[[str], str]] = {"case": other_case, "gender": other_gender}


@dataclass(frozen=True, kw_only=True)
class FamiliesResult(MethodResult):
    """One row a unit: ``unit``, ``partner``, ``correlation`` (on texts that did not choose it), ``back``, ``shuffled``.

    ``back`` says whether the partner's partner is the unit; ``shuffled`` is the correlation of the partner that other
    texts' pairs give it.
    """

    def figure(self) -> Any:
        """Correlations with the partner, beside those of shuffled pairs."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3.2), layout="constrained")
        axes = figure.subplots()
        bins = np.linspace(0, 1, 31).tolist()
        axes.hist(self.rows["shuffled"], bins=bins, color="#b9b9b9", label="shuffled pairs")
        axes.hist(self.rows["correlation"], bins=bins, color="#2f6f8f", alpha=0.8, label="pairs")
        axes.set(xlabel="correlation with the partner, other half of the texts", ylabel="units")
        axes.legend(fontsize="small")
        return figure


@dataclass(frozen=True, kw_only=True)
class Families(Circuit[FamiliesResult]):
    """Equivariance: units that come in pairs which a change of the text exchanges.

    T changes a text and undoes itself: other case, or other gender. a_i(x) is the mean activation of unit i over the
    tokens of text x but the first. On half of the texts each unit gets a partner, on the other half they are compared:

        P(i) = argmax_j |corr( a_i(x), a_j(Tx) )|        correlation = |corr( a_i(x), a_P(i)(Tx) )| on other texts
        involution = share of units with P(P(i)) = i     fixed = share with P(i) = i, which T does not move

    Olah et al. 2020, "Naturally Occurring Equivariance in Neural Networks".

    Metrics: ``correlation`` (mean), ``involution``, ``fixed``, ``exchanged`` (share with P(P(i)) = i and P(i) other
    than i). Controls: ``shuffled pairs`` (x beside another text's Tx), ``untrained`` (the architecture with random
    weights).

    Attributes:
        transform: ``case`` (texts are read in small letters and in capitals) or ``gender`` (texts with a word for a
            man or woman, and with the other one).
        site: whose units.
        pairs: texts that are used, at most.
        tokens: of each text, at most.

    Raises:
        CircuitError: not a decoder; no such transform; a site that can only be read; fewer than 20 texts that the
            transform changes; units that never change.

    Example:
        >>> Families(transform="gender").run(load("smollm2"), Texts.read("texts.csv")).table().head()
    """

    name: ClassVar[str] = "circuits.families"
    inputs: ClassVar[str] = "Texts"
    at_least: ClassVar = {"pairs": 1, "tokens": 2}

    transform: str = "case"
    site: str = "blocks.15.mlp.hook_post"
    pairs: int = 500
    tokens: int = 24

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> FamiliesResult:
        """Pair the units of a site.

        Args:
            model: a decoder.
            data: :class:`tracemend.data.prompts.Texts`.
            progress: shows the texts, of the model and of the untrained one.

        Raises:
            CircuitError: see the class.
        """
        network, texts = self.decoder(model), self.table(Texts, data).frame["text"].tolist()
        if self.transform not in TRANSFORMS:
            raise CircuitError(f"the transform {self.transform!r} is {did_you_mean(self.transform, TRANSFORMS)}")
        where = site(network, self.site).name
        both = self._both(texts)
        arms, unit = {}, 0
        for arm, each in (("found", network), ("untrained", random_weights(network, seed=self.seed))):
            first, second = self._activations(each, where, both, progress)
            unit = first.shape[1]
            self.announce(4 * len(both) * unit + 6 * unit**2, "take another site or fewer pairs")
            arms[arm] = paired(first, second)
            if arm == "found":
                order = np.roll(np.arange(len(both)), 1)
                arms["shuffled pairs"] = paired(first, second[order])
        found, shuffled = arms["found"], arms["shuffled pairs"]
        rows = pd.DataFrame(
            {
                "unit": np.arange(unit),
                "partner": found.partner,
                "correlation": found.correlation,
                "back": found.back,
                "shuffled": shuffled.correlation,
            }
        )
        return FamiliesResult(
            metrics=found.figures,
            controls={arm: arms[arm].figures for arm in ("shuffled pairs", "untrained")},
            config=self.config,
            rows=rows.sort_values("correlation", ascending=False, kind="stable", ignore_index=True),
            facts={"pairs": len(both), "units": unit},
        )

    def _both(self, texts: Sequence[str]) -> list[tuple[str, str]]:
        changed = TRANSFORMS[self.transform]
        whole = [text.lower() if self.transform == "case" else text for text in texts]
        found = [(text, changed(text)) for text in dict.fromkeys(whole)]
        found = [pair for pair in found if pair[0] != pair[1]][: self.pairs]
        if len(found) < _FEWEST:
            raise CircuitError(
                f"the transform {self.transform!r} changes {len(found)} of {len(texts)} texts; {_FEWEST} are needed. "
                "Give more texts, or ones with such words."
            )
        return found

    def _activations(
        self, model: LanguageModel, where: str, both: Sequence[tuple[str, str]], progress: Progress
    ) -> tuple[Floats, Floats]:
        sides: tuple[list[Floats], list[Floats]] = ([], [])
        for pair in progress.track(both, task=f"activations, {model.name}"):
            for side, text in zip(sides, pair, strict=True):
                ids = ids_of(model, text)[:, : self.tokens]
                if ids.shape[1] < 2:
                    raise CircuitError(f"the text {text!r} is one token; every text needs two. Leave it out.")
                side.append(site_activations(model, where, ids).mean(0).double().numpy())
        return np.stack(sides[0]), np.stack(sides[1])

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Sentences of random words on a tiny decoder."""
        words = ["you", "we", "love", "hate", "this", "that", "good", "bad", "film", "movie"]
        rng = np.random.default_rng(0)
        texts = Texts.make([{"text": " ".join(rng.choice(words, 8))} for _ in range(30)])
        return cls(site="blocks.0.mlp.hook_post"), tiny("llama", seed=1), texts


@dataclass(frozen=True, eq=False)
class Paired:
    """Partners of units: ``partner`` and ``correlation`` with it, [units]."""

    partner: Ints
    correlation: Floats

    @property
    def back(self) -> npt.NDArray[np.bool_]:
        """Whether the partner's partner is the unit."""
        found: npt.NDArray[np.bool_] = self.partner[self.partner] == np.arange(len(self.partner))
        return found

    @property
    def figures(self) -> dict[str, float]:
        fixed = self.partner == np.arange(len(self.partner))
        return {
            "correlation": float(self.correlation.mean()),
            "involution": float(self.back.mean()),
            "fixed": float(fixed.mean()),
            "exchanged": float((self.back & ~fixed).mean()),
        }


def paired(first: Floats, second: Floats) -> Paired:
    """Partners chosen on the even rows, and their correlations on the odd ones.

    Args:
        first: activations on the texts, [texts, units].
        second: on the changed texts, [texts, units].

    Raises:
        CircuitError: no unit changes from text to text.
    """
    if not (first.std(0) > 0).any() or not (second.std(0) > 0).any():
        raise CircuitError("no unit of the site changes from text to text; choose another site.")
    partner = np.abs(_correlations(first[::2], second[::2])).argmax(axis=1)
    one, other = _standard(first[1::2]), _standard(second[1::2])
    return Paired(partner, np.abs((one * other[:, partner]).mean(0)))


def _correlations(first: Floats, second: Floats) -> Floats:
    found: Floats = _standard(first).T @ _standard(second) / len(first)
    return found


def _standard(x: Floats) -> Floats:
    spread = x.std(0)
    # A unit that never changes correlates with none.
    found: Floats = np.where(spread > 0, (x - x.mean(0)) / np.where(spread > 0, spread, 1.0), 0.0)
    return found
