"""Shortcuts: words that go with a label and decide it, learnt early; and a student that relies on them less."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from tracemend.arrays import Doubles
from tracemend.data import Labelled, Splits
from tracemend.errors import DataError, TuningError
from tracemend.mend.arms import MendResult
from tracemend.mend.distil import distil, softened
from tracemend.mend.early import learning_curve, with_the_head
from tracemend.mend.head_words import FEWEST, head_of, local_mutual_information, with_shuffled_labels
from tracemend.mend.reliance import Judge
from tracemend.methods import Method
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.saliency import Example, IntegratedGradients
from tracemend.tuning import TextClassifier, Tuning, tune
from tracemend.tuning.tune import Tuned

# What integrated gradients of the whole training set may be off by: twice the cost halves it.
_TOLERANCE = 0.05
SHUFFLED = "shuffled labels"
UNMENDED = "unmended"
OTHERS = "shuffled degrees"


@dataclass(frozen=True, kw_only=True)
class ShortcutsResult(MendResult):
    """Words that look like shortcuts, and what the mending changed.

    Attributes:
        rows: one row a word of the head: word, label, lmi, count, share (see
            :func:`tracemend.mend.head_words.local_mutual_information`), and how often it is the first of its texts'
            words by integrated gradients, or one of the first two.
        texts: one row a training text: uid, label, first and second (words by integrated gradients), in_head, early
            (the likeness v), degree (b), cut (whether the model did not read it to its end), gap (relative, of its
            integrated gradients from adding up).
        curve: one row a checkpoint of the teacher, see :func:`tracemend.mend.early.learning_curve`.
    """

    tables: ClassVar[tuple[str, ...]] = ("texts", "curve")

    texts: pd.DataFrame = field(default_factory=pd.DataFrame)
    curve: pd.DataFrame = field(default_factory=pd.DataFrame)

    def figure(self) -> Any:
        """A matplotlib figure: each figure's bars, and below them the course of the teacher's tuning."""
        figure = super().figure()
        if len(self.curve) < 2:
            return figure
        bars = figure.axes[0]
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + 3)
        grid = figure.add_gridspec(2, 2, height_ratios=[height, 3])
        bars.set_subplotspec(grid[0, :])
        panels = {"share of texts": ["first_two", "shuffled"], "loss": ["loss_with", "loss_without"]}
        for place, (name, columns) in enumerate(panels.items()):
            axes = figure.add_subplot(grid[1, place])
            self.curve.plot(x="step", y=columns, ax=axes, marker="o", color=["#2f6f8f", "#b9b9b9"], ylabel=name)
        return figure


@dataclass(frozen=True, kw_only=True)
class Shortcuts(Method[ShortcutsResult]):
    r"""Find words that a classifier takes for a label, and distil a student that relies on them less (LTGR).

    Du et al. 2021, "Towards Interpreting and Mitigating Shortcut Learning Behavior of NLU Models" (arXiv 2103.06922).
    The head is the share of words with the highest local mutual information with a label. Of a training text i,

    - :math:`u_i` is 1 where one of its first two words, by the magnitude of integrated gradients for its label, lies
      in the head, else 0;
    - :math:`v_i` is the cosine between its integrated gradients after the first epoch and after the last, 0 where the
      two predict different labels: a shortcut is learnt early and stays;
    - :math:`b_i`, its shortcut degree, is :math:`u_i + v_i` scaled to 0..1 over the training texts.

    A fresh student learns the labels, and with the share ``alpha`` the teacher's probabilities
    :math:`p^{1-b}` (normalised): of texts that a shortcut decides it is told to be unsure.

    A word of the head need not be a wrong reason: "awful" goes with a label, too. The table is for a person who
    decides; :class:`tracemend.mend.Regularise` takes what they decide.

    Metrics: ``first`` and ``first_two``, shares of the training texts whose first word, or one of the first two, lies
    in the head; ``early``, that second share after the first epoch; ``degree``, the mean of b; and of the student on
    the verdict part ``accuracy``, ``ap``, ``flipped``, ``reversed``, ``weight`` about the first ``judged`` words of
    the head, see :class:`tracemend.mend.reliance.Judge`. Controls: ``shuffled labels``, the shares for a head of the
    same texts with shuffled labels; ``unmended``, the teacher; ``shuffled degrees``, a student of the same degrees on
    other texts.

    Attributes:
        head: share of the words that form the head.
        fewest: occurrences below which a word is left out, since its share of a label is a matter of luck.
        alpha: share of the teacher in the student's loss.
        judged: words of the head that the student is judged about.
        checked: verdict texts that integrated gradients are taken of.
        followed: training texts, drawn under the seed, whose first words are looked at in every checkpoint.
        steps: of integrated gradients at first; doubled until the completeness gap is at most 5 %.
        max_steps: at most.
        tuning: of teacher and student, under ``seed``; always in float32 and to the last epoch, of which it takes two.

    Example:
        >>> Shortcuts().run(load("minilm"), splits).table().head()
    """

    name: ClassVar[str] = "mend.shortcuts"
    inputs: ClassVar[str] = "Splits"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"encoder", "decoder", "encoder-decoder", "labels", "gradients", "validation"}
    )
    at_least: ClassVar = {"fewest": 1, "judged": 1, "checked": 1, "followed": 1}

    head: float = 0.05
    fewest: int = FEWEST
    alpha: float = 0.8
    judged: int = 5
    checked: int = 50
    followed: int = 200
    steps: int = 8
    max_steps: int = 64
    tuning: Tuning = field(default_factory=lambda: Tuning(epochs=3))

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tuning", replace(self.tuning, seed=self.seed))

    def run(
        self, model: LanguageModel, data: Any, *, out: Path | None = None, progress: Progress = Progress()
    ) -> ShortcutsResult:
        """Tune the teacher, look for shortcuts, tune the student and judge it.

        Args:
            model: is left as it is.
            data: Splits.
            out: folder for the checkpoints of each arm; what is there is not tuned again.

        Raises:
            DataError: other data than Splits, one label only, or no word that occurs often enough.
            TuningError: a choice out of range.
        """
        if not isinstance(data, Splits):
            raise DataError(f"{self.name} takes Splits, not {type(data).__name__}; make them with tracemend.data.")
        self._check()
        train = data.train
        words = local_mutual_information(train, fewest=self.fewest)
        chosen = head_of(words, self.head)
        chance = head_of(
            local_mutual_information(with_shuffled_labels(train, self.seed), fewest=self.fewest), self.head
        )
        tuning = replace(self.tuning, patience=0, precision="fp32")
        teacher = tune(
            model, train, data.validation, tuning, out=_in(out, "arms", UNMENDED, "tuning"), progress=progress
        )
        texts, examples, early = self.degrees(model, teacher, train, set(chosen["word"]), progress)
        drawn = np.sort(np.random.default_rng([self.seed, 1]).permutation(len(train))[: self.followed])
        curve = learning_curve(
            self.tuning.classifier(model, train.labels), teacher.checkpoints, train, chosen, set(chance["word"]),
            self.first_words, followed=drawn, progress=progress,
        )  # fmt: skip
        p = teacher.classifier.probabilities(train.pairs, progress=progress)
        degree = texts["degree"].to_numpy()
        judge = Judge.of(train, remove=list(chosen["word"].head(self.judged)), checked=self.checked, seed=self.seed)
        students: dict[str, Tuned] = {}
        for arm, b in (("found", degree), (OTHERS, np.random.default_rng(self.seed).permutation(degree))):
            students[arm] = distil(
                model, train, data.validation, softened(p, b), tuning, alpha=self.alpha, progress=progress,
                out=_in(out, "tuning") if arm == "found" else _in(out, "arms", arm, "tuning"),
            )  # fmt: skip
        arms = {"found": students["found"], UNMENDED: teacher, OTHERS: students[OTHERS]}
        figures = {arm: judge(tuned.classifier, data.verdict)[0] for arm, tuned in arms.items()}
        shares = {"found": _shares(texts, set(chosen["word"])), SHUFFLED: _shares(texts, set(chance["word"]))}
        return ShortcutsResult(
            metrics={**shares["found"], "early": early, "degree": float(degree.mean()), **figures.pop("found")},
            controls={SHUFFLED: shares[SHUFFLED], **figures},
            config=self.config,
            rows=_table(chosen, texts, examples),
            texts=texts.drop(columns="words"),
            curve=curve,
            findings=(*data.notes, *teacher.notes, *self._notes(words, chosen, texts), _course(train, chosen, curve)),
            tuned=students["found"],
        )

    def degrees(
        self,
        model: LanguageModel,
        teacher: Tuned,
        train: Labelled,
        head: Collection[str],
        progress: Progress = Progress(),
    ) -> tuple[pd.DataFrame, list[Example], float]:
        """How far each training text is decided by words of the head.

        Args:
            model: what the teacher was made from.
            teacher: with its checkpoints, one an epoch, tuned as ``tuning`` says.
            train: what it was tuned on.
            head: the words.

        Returns:
            The table ``texts`` of :class:`ShortcutsResult`, with the column words (the first two); the texts with all
            their words; and the share whose first two words lay in the head after the first epoch.
        """
        examples, final, gaps = self._weights(teacher.classifier, train, progress)
        before = self.tuning.classifier(model, train.labels)
        before.restore(teacher.checkpoints[0].load_state())
        _, first, _ = self._weights(before, train, progress)
        said = [one.predict(train.pairs, progress=progress).argmax(axis=1) for one in (teacher.classifier, before)]
        v = np.array([_cosine(a, b) for a, b in zip(final, first, strict=True)]) * (said[0] == said[1])
        frame = _first_words(examples, final)
        u = frame["words"].map(lambda some: any(word in head for word in some)).to_numpy(dtype=np.float64)
        early = _first_words(examples, first)["words"].map(lambda some: any(word in head for word in some))
        total = u + v
        spread = float(np.ptp(total))
        frame = frame.assign(
            uid=train.uid,
            label=list(train.frame["label"]),
            in_head=u.astype(bool),
            early=v,
            degree=(total - total.min()) / spread if spread > 0 else np.zeros(len(total)),
            cut=[example.cut for example in examples],
            gap=gaps,
        )
        return frame, examples, float(early.mean())

    def first_words(self, classifier: TextClassifier, data: Labelled, progress: Progress = Progress()) -> pd.DataFrame:
        """The first two words of each text by the magnitude of integrated gradients for its label: first, second."""
        examples, weights, _ = self._weights(classifier, data, progress)
        return _first_words(examples, weights)[["first", "second"]]

    def _weights(
        self, classifier: TextClassifier, data: Labelled, progress: Progress
    ) -> tuple[list[Example], list[Doubles], Doubles]:
        """Texts, weights of their words, and how far these are from adding up."""
        method = IntegratedGradients(steps=self.steps, max_steps=self.max_steps, tolerance=_TOLERANCE)
        examples, weights, facts = method.weighed(classifier, data.pairs, [int(y) for y in data.y], progress)
        return examples, weights, facts["gap"]

    def _check(self) -> None:
        if not 0 < self.head <= 1 or not 0 <= self.alpha <= 1:
            raise TuningError(f"head is {self.head} and alpha {self.alpha}; both are shares, and head is above 0.")
        if self.tuning.epochs < 2:
            raise TuningError(
                f"the tuning has {self.tuning.epochs} epoch; what was learnt early is told from what came later, so "
                "give it two or more."
            )

    def _notes(self, words: pd.DataFrame, head: pd.DataFrame, texts: pd.DataFrame) -> list[str]:
        cut, off = int(texts["cut"].sum()), int((texts["gap"] > _TOLERANCE).sum())
        notes = [f"The head is {len(head)} of {len(words)} words that occur {self.fewest} times or more."]
        notes += [f"{cut} training texts were cut; words behind the cut have no weight."] if cut else []
        if off:
            notes.append(
                f"The integrated gradients of {off} training texts are more than {_TOLERANCE:.0%} away from adding up "
                f"after {self.max_steps} steps; raise max_steps to be sure of their first words."
            )
        return notes

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """The made-up messages of :class:`tracemend.mend.Regularise`, and a tiny encoder tuned for two epochs."""
        from tracemend.mend.regularise import Regularise

        regularise, model, splits = Regularise.tiny()
        tuning = replace(regularise.tuning, epochs=2)
        return cls(head=0.2, fewest=2, judged=1, checked=4, steps=2, max_steps=4, tuning=tuning), model, splits


def _first_words(examples: Sequence[Example], weights: Sequence[Doubles]) -> pd.DataFrame:
    """The first two words of each text by magnitude, without regard to case."""
    found = []
    for example, weight in zip(examples, weights, strict=True):
        ranked = np.argsort(-np.nan_to_num(np.abs(weight), nan=-1.0), kind="stable")[:2]
        found.append([example.text_of(example.words[i]).casefold() for i in ranked if not np.isnan(weight[i])])
    second = [some[1] if len(some) > 1 else None for some in found]
    return pd.DataFrame({"words": found, "first": [some[0] for some in found], "second": second})


def _course(train: Labelled, head: pd.DataFrame, curve: pd.DataFrame) -> str:
    """When the share of texts decided by the head was first as high as at the end, in a sentence."""
    share, steps = curve["first_two"].to_numpy(), curve["step"].to_numpy()
    reached = int(steps[np.flatnonzero(share >= share[-1])[0]])
    holding = int(with_the_head(train, head).sum())
    return (
        f"{holding} of {len(train)} training texts hold a word of the head that goes with their label. The share "
        f"decided by the head is {share[0]:.2f} before the tuning and {share[-1]:.2f} after it, which it first "
        f"reaches at step {reached} of {int(steps[-1])}."
    )


def _shares(texts: pd.DataFrame, head: set[str]) -> dict[str, float]:
    inside = texts["words"].map(lambda some: any(word in head for word in some))
    return {"first": float(texts["first"].isin(head).mean()), "first_two": float(inside.mean())}


def _table(head: pd.DataFrame, texts: pd.DataFrame, examples: Sequence[Example]) -> pd.DataFrame:
    """The head with how often each word is the first of its texts' words, and one of the first two."""
    holding = [{example.text_of(word).casefold() for word in example.words} for example in examples]
    rows = []
    for word in head["word"]:
        own = np.array([word in held for held in holding])
        if not own.any():  # all behind the cut, or merged with another word
            rows.append((0, float("nan"), float("nan")))
            continue
        both = texts["words"][own].map(lambda some, word=word: word in some)
        rows.append((int(own.sum()), float((texts["first"][own] == word).mean()), float(both.mean())))
    more = pd.DataFrame(rows, columns=["texts", "first", "first_two"], index=head.index)
    return pd.concat([head, more], axis=1)


def _cosine(one: Doubles, other: Doubles) -> float:
    a, b = np.nan_to_num(one), np.nan_to_num(other)
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 0 else 0.0


def _in(out: Path | None, *names: str) -> Path | None:
    return None if out is None else out.joinpath(*names)
