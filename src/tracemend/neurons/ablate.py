"""What becomes of a property of words, and of the language model, when units of a site are taken."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from tracemend.arrays import Indices
from tracemend.errors import NeuronError, did_you_mean
from tracemend.models import LanguageModel, align, capture, edit, tiny
from tracemend.models.representations import Pooling, padded
from tracemend.neurons.classifier import fit
from tracemend.neurons.dose import AblationResult, Measured, check_doses, dose_response, given_first
from tracemend.neurons.interventions import How, Intervention, Moved, Places
from tracemend.neurons.neuron_method import NeuronMethod
from tracemend.neurons.orders import ORDERS
from tracemend.neurons.units import Units, activations, check_site, pooled, reading
from tracemend.neurons.words import Property, Words, tiny_treebank
from tracemend.progress import Progress

_BATCH = 32
# Places of training that means and donors come from.
_PLACES = 8_000


@dataclass(frozen=True, kw_only=True)
class Ablation(NeuronMethod[AblationResult]):
    """What is lost when the units that a ranking puts first are taken, beside random and last ones.

    A linear classifier learns the property from all units of ``read`` in the whole model, and reads the model with
    units of ``site`` zeroed, set to their mean or resampled (see
    :class:`tracemend.neurons.interventions.Intervention`) at every token of every word of the test sentences, asked
    about or not: else a later site could read from its neighbours what a word has lost. To translate takes a label, so
    that this moves the words asked about alone. Special tokens stay as they are. Where ``read`` is a later site, what
    is lost there is what the model carries on. Of a decoder the loss of its next words is measured too: an ablation
    that costs as much there has broken the model, not taken a property.

    Metrics, of the first ``at`` units of the order: ``loss_rise`` (nats a word), ``accuracy_fall``, ``changed`` (share
    of words that are read as another label), ``to_target`` (translation alone: share read as the label written), and
    ``language_rise`` (decoders alone: nats a token). Controls, the same figures: ``random``, as many random units;
    ``same_norm``, these moved as far as the first would be; ``last``, the other end of the order.

    Attributes:
        how: zero, mean, resample or translate.
        order: by which units are ranked: linear, probeless, gaussian or average-precision.
        units: put before all others, whatever the order says.
        read: the site whose units the classifier reads; that of the ablation where empty.
        sizes: numbers of units.
        at: the one that metrics are about.
        draws: random sets.
        beta: step of a translation, in differences of means.
        sentences: of test, at most, whose next words a decoder is measured on.

    Raises:
        NeuronError: what :class:`NeuronMethod` refuses, no such intervention or order, a unit out of range, more units
            than vary, or a site that cannot be written to.

    Example:
        >>> found = Ablation(task="Number", among="NOUN").run(load("minilm"), read_treebank("ud_ewt"))
        >>> found.table()  # beside random units, and others as far moved
    """

    name: ClassVar[str] = "neurons.ablate"
    at_least: ClassVar = {"sentences": 1}

    how: How = "mean"
    order: str = "linear"
    units: tuple[int, ...] = ()
    read: str = ""
    sizes: tuple[int, ...] = (1, 5, 10, 20, 50)
    at: int = 50
    draws: int = 3
    beta: float = 8.0
    sentences: int = 40

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> AblationResult:
        """Take units, dose by dose.

        Args:
            model: a :class:`LanguageModel`; it is left as it was.
            data: a :class:`Treebank`.
            progress: shown.
        """
        began = time.perf_counter()
        check_doses(self.sizes, self.at, self.draws, self.beta)
        if self.order not in ORDERS:
            raise NeuronError(f"the order {self.order!r} is {did_you_mean(self.order, ORDERS)}")
        words, units, _ = self.read_units(model, data, progress, untrained=False)
        train = words.parts["train"]
        with torch.enable_grad():
            order = ORDERS[self.order](units, train.y, words.classes, self.seed)
        order = given_first(self.units, order, units.width)
        raw = units.x["train"] * units.scale + units.mean
        some = torch.from_numpy(np.random.default_rng(self.seed).permutation(len(train))[:_PLACES])
        intervention = Intervention.of(
            self.how, raw[some], torch.from_numpy(train.y)[some], words.classes, beta=self.beta, seed=self.seed
        )
        seen = units
        if self.read and self.read != self.site:
            seen = Units.of(activations(model, words, self.read, pooling=self.pooling, progress=progress))
        subject = word_subject(
            model, words, seen, self.site, self.pooling, read=self.read, sentences=self.sentences, seed=self.seed
        )
        dose = dose_response(
            subject, intervention, order, sizes=self.sizes, at=self.at, draws=self.draws, seed=self.seed,
            progress=progress,
        )  # fmt: skip
        facts, said = self.about(model, words, units, errors=False)
        facts |= {"order": order.tolist(), "whole": dose.whole, "read": self.read or self.site}
        facts["seconds"] = round(time.perf_counter() - began, 1)
        return AblationResult(
            metrics=dose.arms.pop("first"),
            controls={arm.replace(" ", "_"): figures for arm, figures in dose.arms.items()},
            config=self.config,
            rows=dose.rows,
            findings=[*dose.findings, *said],
            facts=facts,
        )

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A made-up grammar and a tiny decoder."""
        method = cls(sizes=(2, 8), at=8, train_items=150, test_items=50, fewest=5, sentences=4)
        return method, tiny("llama"), tiny_treebank()


def word_subject(
    model: LanguageModel,
    words: Property,
    seen: Units,
    site: str,
    pooling: Pooling,
    *,
    read: str = "",
    sentences: int = 0,
    seed: int = 0,
) -> WordSubject:
    """Test words, with a linear classifier that learnt their labels from the whole model's training words.

    Args:
        model: whose units are taken; of a decoder the next words are measured too.
        words: the property.
        seen: units of what is read.
        site: where units are taken.
        pooling: of a word's tokens.
        read: the site that the classifier reads; ``site`` where empty.
        sentences: for the next words.
        seed: of the classifier.
    """
    train = words.parts["train"]
    with torch.enable_grad():
        weight, bias = fit(seen.x["train"][None], train.y[None], words.classes, l1=0.0, l2=1e-4, seed=seed)
    return WordSubject(
        model, words.parts["test"], site, read or site, pooling, seen, weight[0, 0], bias[0, 0],
        sentences if model.family == "decoder" else 0,
    )  # fmt: skip


class WordSubject:
    """Words whose labels a linear classifier reads from a model, and sentences whose next words it predicts.

    Args:
        model: whose units are taken.
        words: labelled words of test.
        site: where units are taken.
        read: what the classifier reads.
        pooling: of a word's tokens.
        seen: the scale of ``read``.
        weight: of the classifier [d, labels].
        bias: [1, labels].
        sentences: how many, the first ones, give losses of next words; none where 0.
    """

    def __init__(
        self,
        model: LanguageModel,
        words: Words,
        site: str,
        read: str,
        pooling: Pooling,
        seen: Units,
        weight: Tensor,
        bias: Tensor,
        sentences: int,
    ) -> None:
        for name in (site, read):
            check_site(model, name)
        self.model, self.words, self.site, self.read, self.pooling = model, words, site, read, pooling
        self.seen, self.weight, self.bias = seen, weight, bias
        self.y = words.y
        self.groups: Sequence[Any] = words.sentence.tolist()
        self.sentences = min(sentences, len(words.sentences))
        aligned = align(model, words.sentences, pooling=pooling)
        self._ids, self._unit = aligned.ids, aligned.unit
        order = np.argsort([len(row) for row in aligned.ids], kind="stable")
        self._batches = [order[i : i + _BATCH].tolist() for i in range(0, len(order), _BATCH)]
        self._kept: list[Tensor] | None = None
        if read == site:
            self._kept = [self._read(batch) for batch in self._batches]

    def measure(
        self, intervention: Intervention | None = None, units: Indices | None = None, like: Indices | None = None
    ) -> Measured:
        """See :class:`tracemend.neurons.dose.Subject`."""
        moved = Moved()
        vectors: dict[int, Tensor] = {}
        for number, batch in enumerate(self._batches):
            change = None
            if intervention is not None and units is not None:
                change = intervention.edit(units, self._places(batch), like=like, seed=number, moved=moved)
            if self._kept is not None:
                seen = self._kept[number] if change is None else change(self._kept[number].clone())
            elif change is None:
                seen = self._read(batch)
            else:
                with edit(self.model, {self.site: change}):
                    seen = self._read(batch)
            whole = seen.flatten(2).float().cpu()
            for at, i in enumerate(batch):
                unit = torch.from_numpy(self._unit[i])
                vectors[i] = pooled(whole[at, : len(unit)], unit, self.pooling)
        starts = np.cumsum([0, *(len(sentence) for sentence in self.words.sentences)])
        rows = torch.from_numpy(starts[self.words.sentence] + self.words.word)
        x = (torch.cat([vectors[i] for i in range(len(self._ids))])[rows] - self.seen.mean) / self.seen.scale.clamp_min(
            1e-6
        )
        x[:, torch.from_numpy(self.seen.dead)] = 0.0
        logits = (x @ self.weight + self.bias).double()
        loss = functional.cross_entropy(logits, torch.from_numpy(self.y), reduction="none").numpy()
        return Measured(loss, logits.argmax(-1).numpy(), self._next(intervention, units, like), moved.share)

    def _read(self, batch: Sequence[int]) -> Tensor:
        ids, mask = padded(self.model, [self._ids[i] for i in batch])
        with capture(self.model, [self.read]) as seen:
            reading(self.model)(input_ids=ids, attention_mask=mask)
        return seen[self.read]

    def _places(self, batch: Sequence[int]) -> Places:
        """All tokens of words, and the labels of those that are asked about; see :class:`Ablation`."""
        longest = max(len(self._ids[i]) for i in batch)
        inside = torch.zeros(len(batch), longest, dtype=torch.bool)
        label = torch.full((len(batch), longest), -1)
        for at, i in enumerate(batch):
            unit = self._unit[i]
            inside[at, : len(unit)] = torch.from_numpy(unit >= 0)
            own = self.words.sentence == i
            of_word = np.full(len(self.words.sentences[i]) + 1, -1)
            of_word[self.words.word[own]] = self.words.y[own]
            label[at, : len(unit)] = torch.from_numpy(of_word[unit])
        return Places(inside, label)

    def _next(
        self, intervention: Intervention | None, units: Indices | None, like: Indices | None
    ) -> npt.NDArray[np.floating]:
        """Mean loss of the next tokens of each of the first sentences, in nats."""
        found = []
        for i in range(self.sentences):
            if len(self._ids[i]) < 2:
                continue
            ids, mask = padded(self.model, [self._ids[i]])
            if intervention is None or units is None:
                logits = self.model.network(input_ids=ids, attention_mask=mask).logits
            else:
                change = intervention.edit(units, self._places([i]), like=like, seed=i)
                with edit(self.model, {self.site: change}):
                    logits = self.model.network(input_ids=ids, attention_mask=mask).logits
            found.append(float(functional.cross_entropy(logits[0, :-1].float(), ids[0, 1:])))
        return np.array(found, dtype=np.float64)
