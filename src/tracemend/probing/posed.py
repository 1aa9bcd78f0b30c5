"""A probing task as numbers: items, the labels of the task and of its controls, and figures of predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score

from tracemend.arrays import Floats, Indices
from tracemend.errors import ProbeError
from tracemend.models import LanguageModel
from tracemend.models.representations import too_long
from tracemend.probing.controls import control_task, type_majority
from tracemend.probing.jabberwocky import unread
from tracemend.probing.tasks import Items

PARTS = ("train", "dev", "test")
# The test part once more, its open-class words made up.
MADE_UP = "made_up"
# Labels rarer than this in training cannot be learnt, and hardly measured.
_RARE = 10


@dataclass(frozen=True, eq=False)
class Read:
    """What probes of one network predict.

    Attributes:
        dev: [layers, labellings, n].
        test: the same of the test items.
        local: from the neighbours' embeddings [n].
        bits: codelengths of the training labels [layers, labellings].
        width: dimensions of a vector.
        made_up: of the task, on the test items among made-up words [layers, n].
    """

    dev: Indices
    test: Indices
    local: Indices | None
    bits: Floats | None
    width: int
    made_up: Indices | None = None


def fitting(
    words: Mapping[str, Sequence[Sequence[str]]], model: LanguageModel
) -> tuple[dict[str, npt.NDArray[np.bool_]], list[str]]:
    """Which texts of each part fit the model's window, and a note that says how many do not.

    Args:
        words: of the texts of train, dev and test.
        model: whose window.

    Raises:
        ProbeError: nothing of a part is left.
    """
    fit = {part: ~too_long(model, of) for part, of in words.items()}
    for part, of in fit.items():
        if len(of):
            _refuse_empty(part, of, model)
    lost, of_all = sum(int((~of).sum()) for of in fit.values()), sum(len(of) for of in fit.values())
    note = (
        f"{lost} of {of_all} texts have more tokens than the window of {model.name} ({model.window}) and were left out."
    )
    return fit, [note] if lost else []


def _refuse_empty(part: str, left: npt.NDArray[np.bool_], model: LanguageModel) -> None:
    if not left.any():
        raise ProbeError(
            f"no text of {part} fits the window of {model.name} ({model.window} tokens); divide the texts, or take a "
            "model that reads more."
        )


def within(parts: dict[str, Items], model: LanguageModel) -> tuple[dict[str, Items], list[str]]:
    """The items of sentences that fit the model's window, and a note that says how many do not.

    Args:
        parts: train, dev and test; those among made-up words go with test's.
        model: whose window.

    Raises:
        ProbeError: nothing of a part is left.
    """
    fit, notes = fitting({part: parts[part].words for part in PARTS}, model)
    if not notes:
        return parts, []
    left = {part: fit[part][parts[part].sentence] for part in PARTS}
    # A text that fits may have no item.
    for part, of in left.items():
        _refuse_empty(part, of, model)
    left[MADE_UP] = left["test"]
    # A sample of all leaves out the sentences that have no item any more.
    return {part: of.take(left[part]).sample(len(of)) for part, of in parts.items()}, notes


@dataclass(frozen=True, eq=False)
class Posed:
    """Items with label indices: the task's, the control task's (words only), and the task's shuffled."""

    parts: dict[str, Items]
    names: tuple[str, ...]
    labellings: dict[str, Indices]
    by_type: Indices
    notes: list[str]
    made_up: Items | None = None

    @classmethod
    def of(cls, parts: dict[str, Items], seed: int) -> Posed:
        """Drop labels that are too rare, number the others, and draw the labels of the controls.

        Labels are rare by their training items; those of test that training lacks altogether stay, as errors.

        Args:
            parts: train, dev and test; ``made_up``, where there is one, has test's items in test's order.
            seed: of the labels that are drawn.
        """
        made_up = parts.get(MADE_UP)
        parts = {part: parts[part] for part in PARTS}
        counts = Counter(parts["train"].label)
        rare = sorted(label for label in counts if counts[label] < _RARE)
        names = tuple(sorted(label for label in counts if counts[label] >= _RARE))
        notes = []
        if rare:
            notes.append(f"Labels with fewer than {_RARE} training items were left out: {', '.join(rare)}.")
        if len(names) < 2:
            raise ProbeError(
                f"the training part has {len(names)} label with at least {_RARE} items ({', '.join(counts)}); a probe "
                "needs two."
            )
        index = {name: i for i, name in enumerate(names)}
        for part, of in parts.items():
            if index.keys().isdisjoint(of.label):
                raise ProbeError(f"no item of {part} has a label that training has; give parts of one task.")
        # No probe can say a label of test that training lacks: numbered behind the others, its items count as errors.
        foreign = Counter(label for label in parts["test"].label if label not in counts)
        if foreign:
            shown = ", ".join(f"{label} ({n})" for label, n in sorted(foreign.items()))
            notes.append(
                f"{foreign.total()} of the test items have labels that training lacks, and count as errors: {shown}."
            )
        index |= {label: len(names) + i for i, label in enumerate(sorted(foreign))}
        known = {part: list(index) if part == "test" else list(names) for part in PARTS}
        stays = {part: np.isin(np.array(of.label, dtype=object), known[part]) for part, of in parts.items()}
        kept = {part: of.take(stays[part]) for part, of in parts.items()}
        y = {part: np.array([index[label] for label in of.label], dtype=np.int64) for part, of in kept.items()}
        rows = {part: [y[part]] for part in PARTS}
        if kept["train"].unit == "word":
            drawn = control_task([kept[part].form for part in PARTS], y["train"], len(names), seed=seed)
            for part, labels in zip(PARTS, drawn, strict=True):
                rows[part].append(labels)
        for part in PARTS:
            rows[part].append(np.random.default_rng(seed).permutation(y[part]))
        labellings = {part: np.stack(rows[part]) for part in PARTS}
        by_type = type_majority(kept["train"].form, y["train"], kept["test"].form)
        return cls(kept, names, labellings, by_type, notes, None if made_up is None else made_up.take(stays["test"]))

    def before(self, model: LanguageModel) -> Posed:
        """What is put before a model: without the made-up words, and with a note, where they do not fit its window."""
        why = None if self.made_up is None else unread(self.made_up.words, model)
        return self if why is None else replace(self, made_up=None, notes=[*self.notes, why])

    @property
    def classes(self) -> int:
        return len(self.names)

    @property
    def has_control(self) -> bool:
        """A control task labels word types; a sentence seldom occurs twice."""
        return self.parts["train"].unit == "word"

    @property
    def y(self) -> dict[str, Indices]:
        return {part: labels[0] for part, labels in self.labellings.items()}

    @property
    def texts(self) -> dict[str, Items]:
        """All items that a network reads, those among made-up words last."""
        return self.parts if self.made_up is None else {**self.parts, MADE_UP: self.made_up}

    @property
    def replaced(self) -> npt.NDArray[np.bool_]:
        """Which test items are made-up words, or have some; none where nothing is made up."""
        test = self.parts["test"]
        beside = test if self.made_up is None else self.made_up
        return np.array([a != b for a, b in zip(_asked(test), _asked(beside), strict=True)], dtype=bool)

    @property
    def groups(self) -> list[int]:
        """The group of each test item, or its sentence, for intervals."""
        test = self.parts["test"]
        found: list[int] = (test.sentence if test.group is None else test.group).tolist()
        return found

    @property
    def unseen(self) -> npt.NDArray[np.bool_]:
        known = set(self.parts["train"].form)
        return np.array([form not in known for form in self.parts["test"].form])

    def macro_f1(self, predicted: Indices) -> float:
        return float(f1_score(self.y["test"], predicted, average="macro", zero_division=0))

    def accuracies(self, predicted: Indices) -> dict[str, float]:
        hit = predicted == self.y["test"]
        unseen = self.unseen
        found = {"accuracy": float(hit.mean()), "macro_f1": self.macro_f1(predicted)}
        return found | ({"accuracy_unseen": float(hit[unseen].mean())} if self.has_control and unseen.any() else {})

    def figures(self, read: Read, layer: int, uniform: float) -> dict[str, float]:
        found = self.accuracies(read.test[layer, 0])
        if read.made_up is not None and self.replaced.any():
            found["accuracy_replaced"] = float(hits_of(read, self)[layer, self.replaced].mean())
        if self.has_control:
            by_control = float((read.test[layer, 1] == self.labellings["test"][1]).mean())
            found["selectivity"] = found["accuracy"] - by_control
        if read.bits is not None:
            found["compression"] = uniform / float(read.bits[layer, 0])
        return found


def _asked(of: Items) -> list[tuple[str, ...]]:
    """The words that are asked of each item: those of both spans of a pair."""
    spans = [one.tolist() for one in (of.first, of.second) if one is not None]
    if not spans:
        return [(form,) for form in of.form]
    return [
        tuple(word for one in spans for word in of.words[sentence][slice(*one[i])])
        for i, sentence in enumerate(of.sentence.tolist())
    ]


def best_layer(read: Read, posed: Posed) -> int:
    """The layer that is best on dev, as a place among those that were read."""
    return int((read.dev[:, 0] == posed.labellings["dev"][0]).mean(1).argmax())


def hits_of(read: Read, posed: Posed) -> Floats:
    """1 where a layer's probe is right on a test item, else 0 [layers, n]."""
    found: Floats = (read.test[:, 0] == posed.y["test"]).astype(np.float64)
    return found


def hits_made_up(read: Read, posed: Posed) -> Floats | None:
    """The same on the test items among made-up words, where there are any."""
    return None if read.made_up is None else (read.made_up == posed.y["test"]).astype(np.float64)
