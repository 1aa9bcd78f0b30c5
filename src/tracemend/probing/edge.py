"""Edge probes: what spans, and pairs of spans, say at each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracemend.arrays import Indices
from tracemend.data import SpanExamples, Treebank, dependency_spans
from tracemend.errors import ProbeError
from tracemend.models import LanguageModel, represent, tiny
from tracemend.probing.jabberwocky import made_up_beside
from tracemend.probing.layers import LayerProbe, LayerProbeResult
from tracemend.probing.made_up import tiny_treebank
from tracemend.probing.posed import MADE_UP, PARTS, Posed, Read
from tracemend.probing.scalar_mix import Mixed, ScalarMix, Spans
from tracemend.probing.tasks import Items
from tracemend.probing.untrained import averaged
from tracemend.progress import Progress


@dataclass(frozen=True, eq=False)
class _Mixing(Read):
    """What probes of one network predict, with the mixture of its layers."""

    mixed: Mixed | None = None
    rising: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EdgeProbe(LayerProbe):
    """Classify spans and pairs of spans, layer by layer and over a mixture of layers (Tenney et al. 2019).

    By layer: a linear probe (or one hidden layer) on the mean vectors of the spans, side by side, with all controls of
    :class:`LayerProbe`. What these know of a span is its text, of a pair that of its first span, the dependent of a
    dependency: ``control_task`` labels it at random, ``word_type`` is its usual label, ``accuracy_unseen`` is over
    texts that training lacks. Over all layers: :class:`~tracemend.probing.scalar_mix.ScalarMix`, a learnt mixture with
    self-attentive pooling, whose centre of gravity, the sum of l softmax(a)_l, says at what height the model holds the
    task; the random-weights network's own centre stands beside it.

    The expected layer (Tenney et al. 2019) takes s(l), the accuracy of a mixture of layers 0 to l, and is the mean of l
    weighted by what each layer adds: the sum over l > 0 of l (s(l) - s(l - 1)) over s(last) - s(0). It takes as many
    mixtures as there are layers, so it is asked for.

    Metrics beside those of :class:`LayerProbe`: ``mixed_accuracy``, ``centre_of_gravity``; ``expected_layer``, where it
    is asked for and the last mixture beats layer 0.

    Attributes:
        task: what is asked of a treebank: ``dependency``, the relation between a word and its given head. Of labelled
            spans their labels are asked, and this is what the findings call them. Van Aken et al. (2019) have three
            such tasks: :func:`~tracemend.data.relation_spans`, :func:`~tracemend.data.question_spans`,
            :func:`~tracemend.data.read_evidence`; Tenney et al. part of speech (:func:`~tracemend.data.pos_spans`),
            constituents (:func:`~tracemend.data.constituent_spans`), entities (:func:`~tracemend.data.gum_entities`)
            and coreference (:func:`~tracemend.data.coreference_spans`).
        expected_layer: whether mixtures of layers 0 to l are taken for every l; layers that are named must rise.

    Raises:
        ProbeError: data that are neither spans nor a treebank with trees; a part without spans.

    Example:
        >>> found = EdgeProbe().run(load("minilm"), read_conllu("ud_ewt"))
        >>> found.table()[["layer", "accuracy", "random_weights"]], found.metrics["centre_of_gravity"]
    """

    name = "probing.edge"
    inputs: ClassVar[str] = "Spans"

    task: str = "dependency"
    mdl: bool = False
    expected_layer: bool = False

    def _parts(self, data: Any, model: LanguageModel) -> dict[str, Items]:
        if self.expected_layer and list(self.layers) != sorted(self.layers):
            raise ProbeError(f"layers are {list(self.layers)}; name them from below for the expected layer.")
        if isinstance(data, Treebank):
            if self.task != "dependency":
                raise ProbeError(f"of a treebank the task is 'dependency', not {self.task!r}; give labelled spans.")
            banks = data.split(seed=self.seed)
            found = {part: _of_spans(dependency_spans(banks[part])) for part in PARTS}
            if (made_up := made_up_beside(banks, model, seed=self.seed)) is not None:
                found[MADE_UP] = _of_spans(dependency_spans(made_up))
        elif isinstance(data, SpanExamples):
            found = {part: _of_spans(of) for part, of in data.split(seed=self.seed).items()}
        else:
            raise ProbeError(
                f"{self.name} takes SpanExamples or a Treebank, not {type(data).__name__}; read them with read_spans "
                "or read_conllu."
            )
        return self._sampled(found)

    def _read(self, model: LanguageModel, posed: Posed, cache: Path | None, progress: Progress) -> Read:
        hidden, spans = self._words(model, posed.texts, cache, progress)
        x = {
            part: torch.cat([_means(hidden, one) for one in (of.first, of.second) if one is not None], dim=2)
            for part, of in spans.items()
        }
        by_layer = self._fitted(posed, x, {}, progress)
        rising = []
        mixed = None
        for layers in range(1 if self.expected_layer else len(hidden), len(hidden) + 1):
            mixed = ScalarMix(seed=self.seed).fit(
                hidden[:layers], spans["train"], posed.y["train"], posed.classes, spans["test"]
            )
            rising.append(float((mixed.predicted == posed.y["test"]).mean()))
        scores = tuple(rising) if self.expected_layer else ()
        return _Mixing(**vars(by_layer), mixed=mixed, rising=scores)

    def _words(
        self, model: LanguageModel, parts: dict[str, Items], cache: Path | None, progress: Progress
    ) -> tuple[Tensor, dict[str, Spans]]:
        """Vectors of all words [layers, words, d], and the spans of each part among them."""
        words = [sentence for of in parts.values() for sentence in of.words]
        vectors = represent(
            model, words, pooling=self.pooling, layers=list(self.layers) or None, cache=cache, progress=progress
        )
        starts = np.searchsorted(vectors.sentence, np.arange(len(words)))
        spans, begin = {}, 0
        for part, of in parts.items():
            offset = starts[of.sentence + begin][:, None]
            if of.first is None:
                raise ProbeError(f"the items of {part} are no spans.")
            spans[part] = Spans(of.first + offset, None if of.second is None else of.second + offset)
            begin += len(of.words)
        return vectors.hidden, spans

    def _result(
        self, model: LanguageModel, posed: Posed, trained: Read, fresh: list[Read], seconds: float
    ) -> LayerProbeResult:
        found = super()._result(model, posed, trained, fresh, seconds)
        layers = self._chosen(model)
        of_random = [_mixed_figures(one, posed, layers) for one in fresh]
        own = _mixed_figures(trained, posed, layers)
        controls = dict(found.controls)
        controls["random_weights"] = controls["random_weights"] | averaged(of_random)
        table: pd.DataFrame = found.rows
        if isinstance(trained, _Mixing) and trained.mixed is not None:
            table = table.assign(mixture_weight=trained.mixed.weights)
            if trained.rising:
                table = table.assign(mixture_up_to=trained.rising)
        said = [
            f"A mixture of all layers reaches {own['mixed_accuracy']:.3f}; its centre of gravity is layer "
            f"{own['centre_of_gravity']:.2f}, that of random weights "
            f"{controls['random_weights']['centre_of_gravity']:.2f}."
        ]
        if self.expected_layer:
            said.append(_on_expected(own, controls["random_weights"]))
        metrics = {**found.metrics, **own}
        return replace(found, metrics=metrics, controls=controls, rows=table, findings=[*found.findings, *said])

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Seventy sentences of a made-up grammar, and a tiny encoder."""
        return cls(train_items=120, test_items=40), tiny("bert"), tiny_treebank()


def _mixed_figures(read: Read, posed: Posed, layers: list[int]) -> dict[str, float]:
    if not isinstance(read, _Mixing) or read.mixed is None:
        raise ProbeError("there is no mixture of layers.")
    found = {
        "mixed_accuracy": float((read.mixed.predicted == posed.y["test"]).mean()),
        "centre_of_gravity": read.mixed.centre_of_gravity(layers),
    }
    expected = expected_layer(layers, read.rising)
    return found if expected is None else {**found, "expected_layer": expected}


def expected_layer(layers: Sequence[int], scores: Sequence[float]) -> float | None:
    """The mean of the layers, weighted by what each adds to the score of those before it.

    Args:
        layers: their numbers [l].
        scores: of a probe of the first, the first two ... all of them [l].

    Returns:
        Nothing where there are no scores, or the last is not above the first.

    Example:
        >>> round(expected_layer([0, 1, 2], [0.5, 0.7, 0.8]), 2)
        1.33
    """
    if len(scores) < 2 or scores[-1] <= scores[0]:
        return None
    gains = np.diff(scores)
    return float((np.array(layers[1:]) * gains).sum() / (scores[-1] - scores[0]))


def _on_expected(own: dict[str, float], fresh: dict[str, float]) -> str:
    if "expected_layer" not in own:
        return "All layers together read no more than layer 0: there is no expected layer."
    beside = f"{fresh['expected_layer']:.2f}" if "expected_layer" in fresh else "undefined, as no layer adds to layer 0"
    return f"The expected layer is {own['expected_layer']:.2f}; that of random weights is {beside}."


def _means(hidden: Tensor, spans: Indices) -> Tensor:
    """Mean vectors of spans [layers, n, d]."""
    lengths = spans[:, 1] - spans[:, 0]
    into = np.repeat(np.arange(len(spans)), lengths)
    rows = np.concatenate([np.arange(begin, end) for begin, end in spans.tolist()])
    made = torch.zeros(hidden.shape[0], len(spans), hidden.shape[2])
    made.index_add_(1, torch.from_numpy(into), hidden[:, torch.from_numpy(rows)])
    return made / torch.from_numpy(lengths)[None, :, None]


def _of_spans(spans: SpanExamples) -> Items:
    first: Indices = np.array(spans.first, dtype=np.int64)
    second: Indices | None = None if spans.second is None else np.array(spans.second, dtype=np.int64)
    # A pair of texts seldom comes back, so that labels of pairs could not be learnt by heart: the first text's can.
    form = [
        " ".join(spans.words[sentence][begin:end]).lower()
        for sentence, (begin, end) in zip(spans.sentence, spans.first, strict=True)
    ]
    sentences = np.array(spans.sentence, dtype=np.int64)
    return Items(spans.words, sentences, first[:, 0], spans.label, tuple(form), "word", first, second)
