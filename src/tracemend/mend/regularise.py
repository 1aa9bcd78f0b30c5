"""Explanation regularisation: tune so that marked words do not matter, or do, and see whether that is so."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from tracemend.data import Labelled, Splits
from tracemend.data.decision import Decision
from tracemend.errors import DataError, TuningError
from tracemend.mend.arms import MendResult
from tracemend.mend.extractor import LearnedExtractor, Together
from tracemend.mend.marks import (
    Marks,
    Spans,
    check_words,
    elsewhere,
    frequencies,
    marks_of_decisions,
    marks_of_spans,
    marks_of_words,
    of_tokens,
    other_words,
)
from tracemend.mend.penalty import Criterion, Extractor, Penalty
from tracemend.mend.reliance import Judge
from tracemend.methods import Method
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.runs import fingerprint
from tracemend.saliency import Example, encoded
from tracemend.tuning import TextClassifier, Tuning
from tracemend.tuning.checkpoints import unbroken
from tracemend.tuning.own_loss import tune_on
from tracemend.tuning.tune import Tuned, class_weights

# A word of fewer training texts teaches a penalty nothing.
FEWEST = 5
OTHER = "other words"
_Mark = Callable[[int, Example], Marks]


@dataclass(frozen=True, kw_only=True)
class Regularise(Method[MendResult]):
    r"""Tune with a penalty on words that should not matter, or that should.

    .. math:: L = L_{task} + \lambda L_{ER}

    over the training texts, with :class:`tracemend.mend.penalty.Penalty` as :math:`L_{ER}`, whose gradient reaches
    every trainable parameter (Ross et al. 2017; Joshi et al. 2022). Three classifiers are tuned alike: with the marks,
    without any, and with as many other words marked. All are judged on the verdict part by what the penalty does not
    see, :class:`tracemend.mend.reliance.Judge`: what they answer when a marked word is put in, and integrated
    gradients. Metrics are of the marks; the controls ``none`` and ``other words`` are the same figures, of the words
    that were marked, for the other two.

    Other words are about as frequent as those they stand for; in place of a rationale, as many other words of the same
    text are marked, of its own only what these leave wanting, and a note says in how many texts that was so.

    Attributes:
        remove: words that should not matter, wherever they stand.
        add: words that should matter.
        criterion: ``norm`` of the gradient, or a published one, see :func:`tracemend.mend.penalty.share_penalty`.
        extractor: what the published criteria compare with the marks.
        strength: lambda.
        comprehensiveness: of a learned extractor, the factor of what the label loses without its first tokens.
        sufficiency: likewise, of what it loses with them alone.
        budget: training texts that carry marks at most, drawn under the seed; 0 for all.
        checked: verdict texts that integrated gradients are taken of.
        tuning: how the classifiers are tuned, under ``seed``; always in float32, and to the last epoch, since
            validation texts hold the same shortcut as training texts, and the best by them would be the least mended.

    Example:
        >>> Regularise(remove=("honestly",)).run(load("minilm"), splits).metrics["flipped"]
    """

    name: ClassVar[str] = "mend.regularise"
    inputs: ClassVar[str] = "Splits"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"encoder", "decoder", "encoder-decoder", "labels", "gradients", "validation"}
    )
    at_least: ClassVar = {"checked": 1, "budget": 0}

    remove: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    criterion: Criterion = "norm"
    extractor: Extractor = "gradient"
    strength: float = 10.0
    comprehensiveness: float = 0.0
    sufficiency: float = 0.0
    budget: int = 0
    checked: int = 50
    tuning: Tuning = field(default_factory=lambda: Tuning(epochs=3))

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tuning", replace(self.tuning, seed=self.seed))
        for name in ("remove", "add"):  # once each, as they are looked for: case is ignored
            words = {word.casefold(): word for word in reversed(getattr(self, name))}
            object.__setattr__(self, name, tuple(reversed(words.values())))

    @property
    def penalty(self) -> Penalty:
        """What is added to the loss."""
        return Penalty(
            criterion=self.criterion,
            extractor=self.extractor,
            strength=self.strength,
            comprehensiveness=self.comprehensiveness,
            sufficiency=self.sufficiency,
        )

    def run(
        self,
        model: LanguageModel,
        data: Any,
        *,
        rationales: Mapping[str, Spans] | None = None,
        out: Path | None = None,
        progress: Progress = Progress(),
    ) -> MendResult:
        """Tune the three classifiers and judge them.

        Args:
            model: is left as it is.
            data: Splits.
            rationales: uid -> spans of the text that are the reason of its label, of any part; those of training texts
                are tuned on, those of the verdict part judge the plausibility.
            out: folder for the checkpoints of each arm; what is there is not tuned again.

        Raises:
            TuningError: nothing is marked, or the criterion does not fit the marks.
            DataError: other data than Splits, a marked word that fewer than 5 training texts hold, rationales of
                unknown texts, or no other word that could be the control.
            ModelError: the model's attention has no second derivative, or keeps no patterns.
        """
        if not isinstance(data, Splits):
            raise DataError(f"{self.name} takes Splits, not {type(data).__name__}; make them with tracemend.data.")
        told = dict(rationales or {})
        self._check(data, told)
        words = (*self.remove, *self.add)
        others = other_words(data.train.pairs, words, fewest=FEWEST, seed=self.seed)
        judge = Judge.of(
            data.train, remove=self.remove, add=self.add, rationales=told, checked=self.checked, seed=self.seed
        )
        uids, rng = data.train.uid, np.random.default_rng(self.seed)
        silent: list[int] = []
        overlapping: list[int] = []

        def reason(i: int, example: Example) -> Marks:
            return marks_of_spans(example, told.get(uids[i], ()))

        def marked(i: int, example: Example) -> Marks:
            own = reason(i, example)
            if uids[i] in told and np.isnan(own).all():
                silent.append(i)
            return self._marks(example, own, {word: word for word in words})

        def of_others(i: int, example: Example) -> Marks:
            own = reason(i, example)
            other = elsewhere(own, rng)
            if ((own == 1) & (other == 1)).any():
                overlapping.append(i)
            return self._marks(example, other, others)

        arms: dict[str, _Mark | None] = {"found": marked, "none": None, OTHER: of_others}
        figures: dict[str, dict[str, float]] = {}
        rows, notes, kept = [], list(data.notes), None
        for arm, mark in arms.items():
            folder = None if out is None else (out / "tuning" if arm == "found" else out / "arms" / arm / "tuning")
            tuned = self._tune(model, data, mark, folder, progress)
            figures[arm], table = judge(tuned.classifier, data.verdict)
            rows.append(table.assign(arm=arm))
            if arm == "found":
                kept, notes = tuned, [*notes, *tuned.notes]
        return MendResult(
            metrics=figures.pop("found"),
            controls=figures,
            config=self.config,
            rows=pd.concat(rows, ignore_index=True),
            findings=(*notes, *_counted(len(silent), len(overlapping)), *_said(others)),
            tuned=kept,
        )

    def _tune(
        self, model: LanguageModel, data: Splits, mark: _Mark | None, out: Path | None, progress: Progress
    ) -> Tuned:
        classifier = self.tuning.classifier(model, data.labels)
        examples = encoded(classifier, data.train.pairs)
        marks = [np.full(len(e.words), np.nan) if mark is None else mark(i, e) for i, e in enumerate(examples)]
        if mark is not None and all(np.isnan(own).all() for own in marks):
            raise TuningError(
                f"nothing is marked in any of the {len(marks)} training texts: the rationales there hold all words of "
                "their text or none, or are of other parts, and marked words stand behind the cut; mark some words of "
                "a text, or raise max_length."
            )
        if self.budget and mark is not None:
            holding = [i for i, own in enumerate(marks) if not np.isnan(own).all()]
            for i in np.random.default_rng(self.seed).permutation(holding)[self.budget :]:
                marks[i] = np.full(len(marks[i]), np.nan)
        return tune_marked(
            classifier, data.train, data.validation, examples, marks, self.penalty, self.tuning,
            out=out, progress=progress,
        )  # fmt: skip

    def _marks(self, example: Example, found: Marks, words: Mapping[str, str]) -> Marks:
        """Marks of a text's rationale, and over them those of the words; each word by what stands for it."""
        of_words = marks_of_words(
            example, remove=[words[word] for word in self.remove], add=[words[word] for word in self.add]
        )
        return np.where(np.isnan(of_words), found, of_words)

    def _check(self, data: Splits, rationales: Mapping[str, Spans]) -> None:
        if not self.remove and not self.add and not rationales:
            raise TuningError("nothing is marked; name words to remove or to add, or give rationales.")
        check_words(self.remove, self.add)
        both = bool(rationales)
        self.penalty.check(remove=both or bool(self.remove), add=both or bool(self.add))
        known = {uid for part in data.parts.values() for uid in part.uid}
        unknown = sorted(set(rationales) - known)
        if unknown:
            raise DataError(f"{len(unknown)} rationales are of texts that the data lacks (the first: {unknown[0]}).")
        held = _held(data.train, (*self.remove, *self.add))
        for word, texts in held.items():
            if texts < FEWEST:
                raise DataError(
                    f"{texts} training texts hold the word {word!r}, which is too few to learn from; "
                    f"mark a word that stands in {FEWEST} or more."
                )

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Made-up messages in which a word goes with a label, and a tiny encoder tuned for one epoch."""
        from tracemend.models import tiny

        rng = np.random.default_rng(0)
        things = ["movie", "film", "people", "day", "reply", "answer"]
        made = [
            (" ".join([*rng.choice(things, 3), ("please" if i % 2 else "thanks"), str(i)]), ("safe", "unsafe")[i % 2])
            for i in range(48)
        ]
        parts = [Labelled.make(*zip(*made[k : k + 16], strict=True)) for k in (0, 16, 32)]
        tuning = Tuning(epochs=1, batch_size=8, rank=2, max_length=24, precision="fp32")
        splits = Splits(train=parts[0], validation=parts[1], verdict=parts[2])
        return cls(remove=("please",), checked=4, tuning=tuning), tiny("bert"), splits


def tune_marked(
    classifier: TextClassifier,
    train: Labelled,
    validation: Labelled,
    examples: Sequence[Example],
    marks: Sequence[Marks],
    penalty: Penalty,
    tuning: Tuning,
    *,
    out: Path | None = None,
    progress: Progress = Progress(),
) -> Tuned:
    """Tune with any marks: of a word list, of single texts, or of people's rationales.

    Args:
        classifier: fresh; it is tuned in place.
        train: what is tuned on.
        validation: whose average precision each checkpoint records; it chooses none.
        examples: the training texts as :func:`tracemend.saliency.encoded` gives them.
        marks: of each text's words, see :mod:`tracemend.mend.marks`.
        penalty: on the marked words.
        tuning: its precision and patience are not taken: always float32, to the last epoch.
        out: folder for the checkpoints.

    Returns:
        The classifier after the last epoch, without what was learned beside it; a note says how many texts carry
        marks. The checkpoints of a learned extractor hold its parameters, too.

    Raises:
        TuningError: marks and words of a text are not as many, the penalty cannot change the classifier, or see
            :func:`tracemend.tuning.tune`.
    """
    penalty.check_classifier(classifier)
    tokens = [of_tokens(i, example, own) for i, (example, own) in enumerate(zip(examples, marks, strict=True))]
    held = np.array([bool((~np.isnan(own)).any()) for own in tokens])
    rows, y = [example.ids for example in examples], torch.tensor(train.y, device=classifier.device)
    weights = class_weights(train).to(classifier.device) if tuning.class_weights else None
    learned = LearnedExtractor.of(penalty.extractor, classifier, tuning)
    cut = sum(example.cut for example in examples)
    # A tuning that goes on counts its steps as an unbroken one does.
    each = math.ceil(len(rows) / tuning.batch_size)
    steps = itertools.count(each * (len(unbroken(out)) if out is not None else 0))
    notes = [f"{int(held.sum())} of {len(rows)} training texts carry marks."]

    def loss(part: npt.NDArray[np.int64]) -> Tensor:
        # Only texts with marks need the second derivative, which costs more than the first.
        plain, told, step = part[~held[part]], part[held[part]], next(steps)
        logits, extra = [], None
        if len(plain):
            logits.append(classifier.logits(classifier.batch([rows[i] for i in plain])))
        if len(told):
            batch = classifier.batch([rows[i] for i in told])
            targets = torch.full(batch["attention_mask"].shape, torch.nan)
            of_text = torch.zeros(targets.shape, dtype=torch.bool)
            for k, i in enumerate(told):
                targets[k, : len(rows[i])] = torch.from_numpy(tokens[i])
                of_text[k, : len(rows[i])] = torch.from_numpy(examples[i].of_text)
            device = classifier.device
            found, extra = penalty(
                classifier, batch, y[torch.as_tensor(told)], targets.to(device), of_text.to(device),
                learned=learned, step=step,
            )  # fmt: skip
            logits.append(found)
        order = torch.as_tensor(np.concatenate([plain, told]))
        task = torch.nn.functional.cross_entropy(torch.cat(logits), y[order], weight=weights)
        return task if extra is None else task + extra

    work = {"penalty": asdict(penalty), "marks": fingerprint([own.tolist() for own in tokens])}
    return tune_on(
        loss, classifier, rows, train, validation, tuning, work=work, cut=cut, notes=notes, out=out, progress=progress,
        model=None if learned is None else Together(classifier, learned),
    )  # fmt: skip


def tune_on_decisions(
    model: LanguageModel,
    train: Labelled,
    validation: Labelled,
    words: Iterable[Decision],
    tuning: Tuning,
    penalty: Penalty = Penalty(),
    *,
    out: Path | None = None,
    progress: Progress = Progress(),
) -> Tuned:
    """Tune on a training set with the word marks of a ledger, as :func:`tracemend.tuning.tune` does without them.

    Args:
        train: with the label decisions carried out (:func:`tracemend.mend.apply`), whose uids the marks name.
        words: decisions of kind ``word`` that stand: ``new`` is the word, ``evidence["matters"]`` whether it should
            matter, ``scope`` ``all`` or ``example``. Those about removed examples do nothing.
        out: folder for the checkpoints.

    Returns:
        As :func:`tune_marked`; its notes say in how many training texts each marked word stands, ``0`` included.

    Raises:
        TuningError: the penalty does not fit the marks.

    Example:
        >>> with Ledger(run / "ledger.sqlite") as ledger:
        ...     gone = undone(ledger.decisions())
        ...     words = [d for d in ledger.decisions() if d.kind == "word" and not d.undoes and d.version not in gone]
        >>> tune_on_decisions(model, apply(splits.train, state), splits.validation, words, tuning, out=folder)
    """
    rows = [row for row in words if row.kind == "word"]
    matters = [bool(row.evidence.get("matters")) for row in rows]
    if rows:
        penalty.check(remove=not all(matters), add=any(matters))
    classifier = tuning.classifier(model, train.labels)
    examples = encoded(classifier, train.pairs)
    marks = [marks_of_decisions(example, uid, rows) for example, uid in zip(examples, train.uid, strict=True)]
    tuned = tune_marked(classifier, train, validation, examples, marks, penalty, tuning, out=out, progress=progress)
    everywhere = list(dict.fromkeys(str(row.new) for row in rows if row.scope == "all"))
    said = [f"{n} training texts hold the word {word!r}." for word, n in _held(train, everywhere).items()]
    return replace(tuned, notes=(*tuned.notes, *said))


def _held(train: Labelled, words: Sequence[str]) -> dict[str, int]:
    """In how many training texts each word stands."""
    held = frequencies(train.pairs)
    return {word: held.get(word.casefold(), 0) for word in words}


def _counted(silent: int, overlapping: int) -> list[str]:
    told = {
        f"{silent} rationales of training texts hold all words of their text, or none: they tell no word from another "
        "and were left out.": silent,
        f"In the control {overlapping} rationales hold so much of their text that some of their words are marked "
        "there, too.": overlapping,
    }
    return [said for said, rationales in told.items() if rationales]


def _said(others: Mapping[str, str]) -> list[str]:
    return [f"In the control {others[word]!r} is marked in place of {word!r}." for word in others]
