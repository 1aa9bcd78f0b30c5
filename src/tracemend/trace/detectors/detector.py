"""What every detector of wrong labels gives: suspects with evidence, and how that compares with a random order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import pandas as pd

from tracemend.arrays import Floats
from tracemend.data import Labelled, Splits
from tracemend.errors import TraceError
from tracemend.evaluate import detection
from tracemend.methods import Method, MethodResult
from tracemend.models import tiny
from tracemend.progress import Progress
from tracemend.trace.calibration import calibrated, trusted_wrong
from tracemend.trace.dynamics import Dynamics, dynamics
from tracemend.trace.gradients.collect import Precision
from tracemend.trace.groups import groups_of
from tracemend.trace.influence import Influence
from tracemend.trace.out_of_fold import out_of_fold_probabilities
from tracemend.trace.similarity import embed
from tracemend.trace.tracin import TracIn, self_influence
from tracemend.tuning import Checkpoint, TextClassifier, Tuned, Tuning, tune

T = TypeVar("T")
# Labels more than half of which are thought wrong contradict those that judge them.
_MOST = 0.5


@dataclass(frozen=True, eq=False)
class Subject:
    """What a detector looks at.

    What several detectors need is computed once and kept, so run them on one subject; make another when the classifier
    has been tuned on.

    Attributes:
        classifier: tuned on ``splits.train``.
        checkpoints: of its tuning, earliest first; none where only the classifier is known.
        splits: ``train`` holds the labels in question, ``validation`` those that are trusted.
        precision: of passes through the classifier; ``bf16`` is about three times faster where the processor has it.
        trusted: whether the validation labels were checked; False where they come out of the column in question.

    Example:
        >>> subject = Subject(tuned.classifier, tuned.until_best(), splits)
        >>> tables = [detector.run(subject, splits).table() for detector in (Aum(), DataMaps(), Forgetting())]
    """

    classifier: TextClassifier
    checkpoints: Sequence[Checkpoint]
    splits: Splits
    precision: Precision = "fp32"
    trusted: bool = True
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def embedded(
        self, part: Literal["train", "validation"], progress: Progress = Progress(), *, layers: int = 1
    ) -> Floats:
        """Unit sentence embeddings of a part by the untuned model [n, layers * D]."""
        data = self.splits.train if part == "train" else self.splits.validation
        model, length = self.classifier.language_model, self.classifier.max_length
        return self._once(
            (part, layers), lambda: embed(model, data.pairs, max_length=length, layers=layers, progress=progress)
        )

    def logits(self, progress: Progress = Progress()) -> Floats:
        """Of the training examples under the classifier [n, C]."""
        return self._once(
            "logits",
            lambda: self.classifier.predict(self.splits.train.pairs, precision=self.precision, progress=progress),
        )

    def dynamics(self, progress: Progress = Progress()) -> Dynamics:
        """Predictions on the training examples at each checkpoint."""
        train = self.splits.train
        return self._once(
            "dynamics",
            lambda: dynamics(self.classifier, train, self.checkpoints, precision=self.precision, progress=progress),
        )

    def influence(self, tracin: TracIn, progress: Progress = Progress()) -> Influence:
        """Of each training example on each validation example, over the checkpoints."""
        train, validation, used = self.splits.train, self.splits.validation, self.checkpoints
        how = replace(tracin, precision=self.precision)
        found = self._once(
            ("influence", how),
            lambda: how.influence(self.classifier, train, validation, checkpoints=used, progress=progress),
        )
        if not how.parts and how.project is None and how.optimizer == "sgd":
            # Whole gradients' own products are those of own_influence, whatever normalises the others.
            self._once("own influence", lambda: found.self_influence)
        return found

    def own_influence(self, progress: Progress = Progress()) -> Floats:
        """Of each training example on itself, over the checkpoints and all parameters [n].

        What an influence by whole gradients found on the way is taken; one of some parts, projected, or in the metric
        of an optimizer says something else.
        """
        return self._once(
            "own influence",
            lambda: self_influence(
                self.classifier,
                self.splits.train,
                checkpoints=self.checkpoints,
                precision=self.precision,
                progress=progress,
            ),
        )

    def out_of_fold(self, folds: int, seed: int, progress: Progress = Progress()) -> Floats:
        """Probabilities of the training labels by logistic regression on frozen embeddings, out of fold [n, C]."""
        features, train = self.embedded("train", progress), self.splits.train
        of, authors = len(train.labels), groups_of(train)
        return self._once(
            ("out of fold", folds, seed),
            lambda: out_of_fold_probabilities(features, train.y, of, folds=folds, seed=seed, groups=authors),
        )

    def wrong(self, progress: Progress = Progress()) -> Floats:
        """Probability by trusted evidence that each training label is wrong [n]: what scores are calibrated on."""
        return self._once("wrong", lambda: trusted_wrong(self, progress))

    def _once(self, what: Any, make: Callable[[], T]) -> T:
        if what not in self._kept:
            self._kept[what] = make()
        found: T = self._kept[what]
        return found


@dataclass(frozen=True, eq=False)
class Suspicion:
    """How suspicious each training label is.

    Attributes:
        scores: [n], higher is more suspicious.
        evidence: a sentence an example [n].
        probabilities: of each label [n, C], by whom the suggestion is made; None asks the classifier.
        wrong: probability that each label is wrong [n], where the detector itself says so; None leaves it to
            :func:`tracemend.trace.calibrated`.
        nothing: why nothing can be said of any label; no other is suggested then.
    """

    scores: Floats
    evidence: Sequence[str]
    probabilities: Floats | None = None
    wrong: Floats | None = None
    nothing: str | None = None


@dataclass(frozen=True, kw_only=True)
class Detector(Method[MethodResult]):
    """Base of the detectors: a subclass says how suspicious each training label is.

    The result's table has one row a training example, the most suspicious first: rank, uid, text, label, suggested,
    score, probability (that the label is wrong; NaN where the validation set cannot tell, or is not trusted),
    evidence. Equal scores stand in the order of the data. Its metrics:

    - ``denied``: share of the top ``share`` whose label the classifier does not predict, which says nothing of a
      detector that ranks by that classifier's probabilities;
    - ``detection_ap``, ``detection_auroc``, ``precision_at_k``, where the truth is known
      (see :func:`tracemend.evaluate.detection`);
    - ``brier``, likewise, where there is a probability: its mean squared error.

    The controls are the same figures for a random order; of ``brier``, for the true share of wrong labels given as the
    probability of every example.

    Attributes:
        share: of the training set that counts as its top, in (0, 1].
    """

    inputs: ClassVar[str] = "Splits"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder", "labels"})

    share: float = 0.1

    @abstractmethod
    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Score the labels of ``subject.splits.train``."""

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> MethodResult:
        """Rank the training labels by suspicion.

        Args:
            model: a :class:`TextClassifier`, a :class:`Tuned` whose checkpoints are traced as well, or a
                :class:`Subject` of the same splits.
            data: the splits it was tuned on.

        Raises:
            TraceError: another kind of model or data, other labels than the model's, fewer than two of them, no
                training example, ``share`` out of range, or a score that is not finite.
        """
        subject = self._subject(model, data)
        train = subject.splits.train
        logits = subject.logits(progress)
        found = self._checked(self.suspicion(subject, progress), train)
        wrong = self._wrong(found, subject, progress)
        order = np.argsort(-found.scores, kind="stable")
        judged = (logits if found.probabilities is None else found.probabilities).astype(np.float64)
        judged[np.arange(len(train)), train.y] = -np.inf
        names = np.array(train.labels, dtype=object)
        table = pd.DataFrame(
            {
                "rank": np.arange(1, len(train) + 1),
                "uid": np.array(train.uid, dtype=object)[order],
                "text": train.frame["text"].to_numpy()[order],
                "label": train.frame["label"].to_numpy()[order],
                "suggested": None if found.nothing else names[judged.argmax(axis=1)][order],
                "score": found.scores[order].astype(np.float64),
                "probability": wrong[order].astype(np.float64),
                "evidence": np.array(found.evidence, dtype=object)[order],
            }
        )
        denied = logits.argmax(axis=1) != train.y
        top = order[: max(1, round(self.share * len(train)))]
        metrics = {"denied": float(denied[top].mean())}
        controls = {"denied": float(denied.mean())}
        if train.has_truth:
            known = detection(found.scores, train.wrong)
            metrics, controls = metrics | known.metrics, controls | known.controls
            if subject.trusted and np.isfinite(wrong).all():
                metrics["brier"] = float(np.mean((wrong - train.wrong) ** 2))
                controls["brier"] = float(train.wrong.mean() * (1 - train.wrong.mean()))
        findings = [] if subject.trusted else self._on_trust()
        if found.nothing:
            findings = [
                f"No suspect can be named: {found.nothing}. The rows stand in the order of the data. Give checked "
                "examples with --valid FILE, or check that the label column is the right one."
            ]
        if wrong.mean() > _MOST:
            findings.append(
                f"{wrong.mean():.0%} of the labels are thought wrong: they contradict the validation labels. Check "
                "that both use the same names for the same things, and whether it is the validation labels that are "
                "wrong; tracemend repair refuses such data."
            )
        return MethodResult(metrics=metrics, controls=controls, config=self.config, rows=table, findings=findings)

    def _wrong(self, found: Suspicion, subject: Subject, progress: Progress) -> Floats:
        """Probability that each label is wrong; NaN where nothing that is trusted says so."""
        if not subject.trusted:
            return np.full(len(found.scores), np.nan)
        return calibrated(found.scores, subject.wrong(progress)) if found.wrong is None else found.wrong

    def _on_trust(self) -> list[str]:
        said = [
            "No probability is given: the validation labels come out of the same column as those in question, and one "
            "that takes them to be right comes out too low. Give checked examples with --valid FILE; the order of the "
            "suspects stays the same."
        ]
        if "validation" in self.capabilities:
            said = [
                f"{self.name} takes the validation labels to be right, and here they come out of the same column as "
                "those in question: its order is worse for it, and no probability is given. Give checked examples with "
                "--valid FILE, or take a detector that needs none, such as trace.out-of-fold-loss."
            ]
        return said

    def _subject(self, model: Any, data: Any) -> Subject:
        if not isinstance(data, Splits):
            raise TraceError(
                f"{self.name} takes Splits (train, validation, verdict), not {type(data).__name__}; "
                "make them with tracemend.data."
            )
        if not 0 < self.share <= 1:
            raise TraceError(f"share is {self.share}; expected a number above 0 and at most 1.")
        if isinstance(model, Subject):
            if model.splits is not data:
                raise TraceError("the subject is of other splits than those given; give subject.splits.")
            subject = model
        elif isinstance(model, Tuned):
            subject = Subject(model.classifier, model.until_best(), data)
        elif isinstance(model, TextClassifier):
            subject = Subject(model, (), data)
        else:
            raise TraceError(
                f"{self.name} takes a TextClassifier or a Tuned, not {type(model).__name__}; tune one first."
            )
        known = subject.classifier.labels
        if data.labels != known or data.validation.labels != known:
            raise TraceError(
                f"the data has the labels {', '.join(data.labels)} (validation: {', '.join(data.validation.labels)}) "
                f"and the model {', '.join(known)}; they must be the same, in the same order."
            )
        if len(known) < 2 or not len(data.train):
            raise TraceError(
                f"there are {len(data.train)} training examples and {len(known)} labels; a label can be wrong only "
                "where there is an example, and another label to take its place."
            )
        return subject

    def _checked(self, found: Suspicion, train: Labelled) -> Suspicion:
        for what, values in (("scores", found.scores), ("probabilities of a wrong label", found.wrong)):
            if values is None:
                continue
            if values.shape != (len(train),):
                raise TraceError(f"{self.name} gave {what} of shape {values.shape} for {len(train)} examples.")
            bad = np.flatnonzero(~np.isfinite(values))
            if len(bad):
                raise TraceError(
                    f"{self.name} gives {values[bad[0]]} for {len(bad)} of {len(train)} {what} (first: example "
                    f"{train.uid[bad[0]]}), and what is not finite cannot be ranked; tune with a lower "
                    "--learning-rate, or name another --method."
                )
        return found

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Forty made-up messages, a quarter of the labels wrong, and a tiny encoder tuned on them for two epochs."""
        splits = _tiny_splits()
        tuning = Tuning(adapter="prompt", epochs=2, virtual_tokens=2, max_length=24, patience=0, precision="fp32")
        return cls(), tune(tiny("bert"), splits.train, splits.validation, tuning).classifier, splits


def _tiny_splits() -> Splits:
    words = {"safe": ("love", "great", "nice", "thanks"), "unsafe": ("hate", "awful", "terrible", "toxic")}
    objects = ("movie", "film", "people", "day", "reply")
    made = [(f"{word} {thing}", label) for thing in objects for label in words for word in words[label]]
    flip = {"safe": "unsafe", "unsafe": "safe"}
    texts, truth = [text for text, _ in made], [label for _, label in made]
    given = [flip[label] if i % 4 == 1 else label for i, label in enumerate(truth)]
    train = Labelled.make(texts[:24], given[:24], truth=truth[:24], label_names=tuple(words))
    clean = Labelled.make(texts[24:], truth[24:], label_names=tuple(words))
    return Splits(train=train, validation=clean, verdict=clean)
