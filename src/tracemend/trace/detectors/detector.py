"""What every detector of wrong labels gives: suspects with evidence, and how that compares with a random order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.data import Labelled, Splits
from tracemend.errors import TraceError
from tracemend.evaluate import detection
from tracemend.methods import Method, MethodResult
from tracemend.models import tiny
from tracemend.progress import Progress
from tracemend.tuning import Checkpoint, TextClassifier, Tuned, Tuning, tune

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Subject:
    """What a detector looks at.

    Attributes:
        classifier: tuned on ``splits.train``.
        checkpoints: of its tuning, earliest first; none where only the classifier is known.
        splits: ``train`` holds the labels in question, ``validation`` those that are trusted.
    """

    classifier: TextClassifier
    checkpoints: Sequence[Checkpoint]
    splits: Splits


@dataclass(frozen=True, eq=False)
class Suspicion:
    """How suspicious each training label is.

    Attributes:
        scores: [n], higher is more suspicious.
        evidence: a sentence an example [n].
        probabilities: of each label [n, C], by whom the suggestion is made; None asks the classifier.
    """

    scores: Floats
    evidence: Sequence[str]
    probabilities: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class Detector(Method[MethodResult]):
    """Base of the detectors: a subclass says how suspicious each training label is.

    The result's table has one row a training example, the most suspicious first: rank, uid, text, label, suggested,
    score, evidence. Its metrics:

    - ``denied``: share of the top ``share`` whose label the classifier does not predict;
    - ``detection_ap``, ``detection_auroc``, ``precision_at_k``, where the truth is known
      (see :func:`tracemend.evaluate.detection`).

    The controls are the same figures for a random order.

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
            TraceError: another kind of model or data, or ``share`` out of range.
        """
        subject = self._subject(model, data)
        train = subject.splits.train
        logits = subject.classifier.predict(train.pairs, progress=progress)
        found = self.suspicion(subject, progress)
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
                "suggested": names[judged.argmax(axis=1)][order],
                "score": found.scores[order].astype(np.float64),
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
        return MethodResult(metrics=metrics, controls=controls, config=self.config, rows=table)

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
            return model
        if isinstance(model, Tuned):
            return Subject(model.classifier, model.until_best(), data)
        if isinstance(model, TextClassifier):
            return Subject(model, (), data)
        raise TraceError(f"{self.name} takes a TextClassifier or a Tuned, not {type(model).__name__}; tune one first.")

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
