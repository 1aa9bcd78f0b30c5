"""Robust explanations: what is left of them in copies with near words, and tuning that keeps more of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.arrays import Doubles
from tracemend.data import Labelled, Splits
from tracemend.errors import DataError, TuningError
from tracemend.evaluate import mean_interval
from tracemend.mend.agreement import by_place, kendall, of_other_texts, overlap
from tracemend.mend.arms import MendResult
from tracemend.mend.attack import Copy, at_random, attack, swapped
from tracemend.mend.penalty import check_differentiable
from tracemend.mend.synonyms import Synonyms
from tracemend.mend.tied import Adversary, Tied, tune_tied
from tracemend.methods import Method
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.saliency import IntegratedGradients
from tracemend.tuning import TextClassifier, Tuning, tune
from tracemend.tuning.tune import Tuned

NONE, ADVERSARIAL = "none", "adversarial"
RANDOM, OTHERS = "random words", "other texts"


@dataclass(frozen=True, kw_only=True)
class Robustness(Method[MendResult]):
    r"""Say how much of a classifier's explanations copies with near words keep, and tune for more of it.

    After Chen & Ji 2022, "Adversarial Training for Improving Model Robustness? Look at Both Prediction and
    Interpretation" (FLAT, arXiv 2203.12709). Copies replace words of a text by near ones
    (:class:`tracemend.mend.synonyms.Synonyms`), so that its label stays. The classifier is tuned by

    .. math:: L = CE(x, y) + CE(x', y) + \gamma \tfrac{1}{|P|} \sum_{(i, j) \in P} |s_i - s_j|

    over the pairs P of a replaced word and its substitute, with :math:`s_i` a word's share of input x gradient. The
    published method ties masks that it learns for each word; a mask would be a part of the classifier, so that no
    other program could load it, and its published term has no gradient. Here the classifier's own attribution is tied,
    and its second derivative reaches every trainable parameter.

    Metrics, on the verdict part: ``accuracy``; ``after_attack``, that of the ``checked`` texts when each is replaced
    by a copy that a greedy search makes the classifier err on, where it finds one; ``kept``, the share of copies with
    words replaced at random whose predicted label is that of their text; of these copies ``tau`` and ``top``, Kendall's
    rank correlation of their words' integrated gradients with those of the text, and what the k first words have in
    common; ``attacks``, how many searches succeeded, and ``tau_attacked``, ``top_attacked`` of their copies, NaN
    without any. Weights are for the label predicted for the text, and words are aligned by their places.

    Controls: ``none``, the same tuning without copies; ``adversarial``, with copies and nothing tied; and of the
    mended classifier ``random words``, copies with any other words at the same places, and ``other texts``, each text
    with the next one.

    Attributes:
        strength: gamma.
        tied: ``replaced`` words, or ``all`` words with those at their places.
        similarity: least cosine of a word and its substitute.
        apart: largest distance of their labels in the training texts.
        share: of a text's words that a copy replaces at most.
        copies: drawn a text and step, of which the worst is tuned on.
        clean: epochs at first without copies.
        top: k.
        checked: verdict texts that are attacked and explained.
        tuning: under ``seed``; always in float32 and to the last epoch.

    Example:
        >>> Robustness().run(load("minilm"), splits).arms()
    """

    name: ClassVar[str] = "mend.robustness"
    inputs: ClassVar[str] = "Splits"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"encoder", "decoder", "encoder-decoder", "labels", "gradients", "validation"}
    )
    at_least: ClassVar = {"copies": 1, "top": 1, "checked": 1}

    strength: float = 10.0
    tied: Tied = "replaced"
    similarity: float = 0.4
    apart: float = 0.15
    share: float = 0.3
    copies: int = 4
    clean: int = 1
    top: int = 3
    checked: int = 100
    tuning: Tuning = field(default_factory=lambda: Tuning(epochs=4))

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tuning", replace(self.tuning, seed=self.seed))

    def run(
        self, model: LanguageModel, data: Any, *, out: Path | None = None, progress: Progress = Progress()
    ) -> MendResult:
        """Tune the three classifiers, attack them and compare their explanations.

        Args:
            model: is left as it is.
            data: Splits.
            out: folder for the checkpoints of each arm; what is there is not tuned again.

        Raises:
            DataError: other data than Splits, no word that has a substitute, or none in the verdict texts.
            TuningError: a choice out of range.
            ModelError: the model's attention has no second derivative.
        """
        if not isinstance(data, Splits):
            raise DataError(f"{self.name} takes Splits, not {type(data).__name__}; make them with tracemend.data.")
        self._check()
        check_differentiable(model.network)
        synonyms = Synonyms.make(model, data.train, similarity=self.similarity, apart=self.apart)
        drawn = np.sort(np.random.default_rng(self.seed).permutation(len(data.verdict))[: self.checked])
        texts = data.verdict.take(drawn)
        swaps = self._swaps(texts, synonyms)
        tuning = replace(self.tuning, patience=0, precision="fp32")
        adversary = Adversary(synonyms=synonyms, share=self.share, copies=self.copies, clean=self.clean)
        arms: dict[str, Tuned] = {}
        for arm, strength in (("found", self.strength), (ADVERSARIAL, 0.0), (NONE, None)):
            folder = None if out is None else (out / "tuning" if arm == "found" else out / "arms" / arm / "tuning")
            if strength is None:
                arms[arm] = tune(model, data.train, data.validation, tuning, out=folder, progress=progress)
                continue
            arms[arm] = tune_tied(
                tuning.classifier(model, data.labels), data.train, data.validation, adversary, tuning,
                strength=strength, tied=self.tied, out=folder, progress=progress,
            )  # fmt: skip
        figures: dict[str, dict[str, float]] = {}
        tables = []
        for arm, tuned in arms.items():
            found, rows = self._judge(tuned.classifier, texts, swaps, synonyms, progress)
            p = tuned.classifier.probabilities(data.verdict.pairs, progress=progress)
            figures[arm] = {"accuracy": float((p.argmax(axis=1) == data.verdict.y).mean()), **found}
            tables.append(rows.assign(arm=arm))
        mended = arms["found"].classifier
        controls = self._controls(mended, texts, swaps, synonyms, progress)
        rows = pd.concat(tables, ignore_index=True)
        return MendResult(
            metrics=figures.pop("found"),
            controls={NONE: figures[NONE], ADVERSARIAL: figures[ADVERSARIAL], **controls},
            config=self.config,
            rows=rows[["arm", *(column for column in rows if column != "arm")]],
            findings=(*data.notes, *arms["found"].notes, *self._notes(synonyms, swaps, rows, texts)),
            tuned=arms["found"],
        )

    def _swaps(self, texts: Labelled, synonyms: Synonyms) -> list[Copy | None]:
        """The same copies for every arm."""
        rng = np.random.default_rng([self.seed, 1])
        swaps = [swapped(pair, synonyms, self.share, rng) for pair in texts.pairs]
        if not any(swaps):
            raise DataError(
                f"no word of the {len(texts)} checked texts has a substitute; lower the similarity ({self.similarity})."
            )
        return swaps

    def _judge(
        self,
        classifier: TextClassifier,
        texts: Labelled,
        swaps: Sequence[Copy | None],
        synonyms: Synonyms,
        progress: Progress,
    ) -> tuple[dict[str, float], pd.DataFrame]:
        said = classifier.predict(texts.pairs, progress=progress).argmax(axis=1)
        right = np.flatnonzero(said == texts.y)
        pairs = [texts.pairs[i] for i in right]
        wrong = attack(classifier, pairs, texts.y[right], synonyms, share=self.share, progress=progress)
        attacks: list[Copy | None] = [None] * len(texts)
        for i, copy in zip(right, wrong, strict=True):
            attacks[i] = copy
        weights = self._weights(classifier, texts.pairs, said, progress)
        frames = {
            kind: self._compared(classifier, texts, said, weights, copies, progress).assign(kind=kind)
            for kind, copies in (("swap", swaps), ("attack", attacks))
        }
        swap, attacked = frames["swap"], frames["attack"]
        same = swap[swap["kept"]]
        n = len(attacked)
        return {
            "after_attack": (len(right) - n) / len(texts),
            "kept": float(swap["kept"].mean()),
            "tau": _mean(same["tau"]),
            "top": _mean(same["top"]),
            "attacks": float(n),
            "tau_attacked": _mean(attacked["tau"]),
            "top_attacked": _mean(attacked["top"]),
        }, pd.concat([swap, attacked] if n else [swap], ignore_index=True)

    def _controls(
        self,
        classifier: TextClassifier,
        texts: Labelled,
        swaps: Sequence[Copy | None],
        synonyms: Synonyms,
        progress: Progress,
    ) -> dict[str, dict[str, float]]:
        rng = np.random.default_rng([self.seed, 2])
        copies = [
            None if copy is None else at_random(pair, copy, synonyms, rng)
            for pair, copy in zip(texts.pairs, swaps, strict=True)
        ]
        said = classifier.predict(texts.pairs, progress=progress).argmax(axis=1)
        weights = self._weights(classifier, texts.pairs, said, progress)
        found = self._compared(classifier, texts, said, weights, copies, progress)
        same = found[found["kept"]]
        tau, top = of_other_texts(weights, self.top)
        return {
            RANDOM: {"kept": float(found["kept"].mean()), "tau": _mean(same["tau"]), "top": _mean(same["top"])},
            OTHERS: {"tau": _mean(tau), "top": _mean(top)},
        }

    def _compared(
        self,
        classifier: TextClassifier,
        texts: Labelled,
        said: npt.NDArray[np.int64],
        weights: Sequence[Doubles],
        copies: Sequence[Copy | None],
        progress: Progress,
    ) -> pd.DataFrame:
        """One row a copy: what the classifier makes of it, and what is left of the text's explanation."""
        at = [i for i, copy in enumerate(copies) if copy is not None]
        pairs = [copy.pair for copy in copies if copy is not None]
        names = ("example", "label", "text", "copy", "kept", "tau", "top")
        if not at:
            return pd.DataFrame({name: [] for name in names})
        answers = classifier.predict(pairs, progress=progress).argmax(axis=1)
        others = self._weights(classifier, pairs, said[at], progress)
        return pd.DataFrame(
            {
                "example": at,
                "label": texts.frame["label"].to_numpy()[at],
                "text": [texts.pairs[i][0] for i in at],
                "copy": [pair[0] for pair in pairs],
                "kept": answers == said[at],
                "tau": [kendall(weights[i], other) for i, other in zip(at, others, strict=True)],
                "top": [overlap(weights[i], other, self.top) for i, other in zip(at, others, strict=True)],
            }
        )

    def _weights(
        self, classifier: TextClassifier, pairs: Sequence[Any], targets: npt.NDArray[np.int64], progress: Progress
    ) -> list[Doubles]:
        """Integrated gradients of each word, by place: another attribution than the one that is tuned on."""
        method = IntegratedGradients(steps=8, max_steps=64, tolerance=0.05)
        examples, found = method.weights(classifier, pairs, [int(y) for y in targets], progress)
        return [by_place(example, weight) for example, weight in zip(examples, found, strict=True)]

    def _notes(
        self, synonyms: Synonyms, swaps: Sequence[Copy | None], rows: pd.DataFrame, texts: Labelled
    ) -> list[str]:
        n = sum(copy is not None for copy in swaps)
        notes = [
            f"{len(synonyms.of)} of {len(synonyms.known)} words of the training texts have a substitute.",
            f"{n} of {len(swaps)} checked texts have a copy with words replaced at random.",
        ]
        swap = rows[(rows["kind"] == "swap") & rows["kept"].astype(bool) & rows["tau"].notna()]
        tau = swap.pivot_table(index="example", columns="arm", values="tau")
        for arm in (NONE, ADVERSARIAL):
            both = tau[["found", arm]].dropna() if {"found", arm} <= set(tau) else tau.iloc[:0]
            if len(both) < 2:
                notes.append(
                    f"tau cannot be compared with the arm {arm!r}: {len(both)} copies keep their label in both."
                )
                continue
            gap = (both["found"] - both[arm]).to_numpy()
            # Of two comparisons, each at half the error.
            low, high = mean_interval(gap, texts.group_ids[both.index].tolist(), level=0.975, seed=self.seed)
            shown = "" if low > 0 else ": not shown"
            notes.append(
                f"tau is {gap.mean():+.3f} [{float(low):+.3f}, {float(high):+.3f}] beside the arm {arm!r}, on the "
                f"{len(both)} copies whose label both keep{shown}."
            )
        attacked = set(rows.loc[rows["kind"] == "attack", "arm"])
        return notes + [
            f"No attack on the arm {arm!r} succeeded (n = 0), so that it has no tau of attacks."
            for arm in rows["arm"].unique()
            if arm not in attacked
        ]

    def _check(self) -> None:
        if not 0 < self.strength < np.inf:
            raise TuningError(
                f"strength is {self.strength}; it must be above 0, such as 10 (the control arm has it at 0)."
            )
        if not 0 < self.share <= 1:
            raise TuningError(f"share is {self.share}; it is of a text's words, above 0 and at most 1.")
        if not 0 <= self.clean < self.tuning.epochs:
            raise TuningError(
                f"clean is {self.clean} of {self.tuning.epochs} epochs; at least one epoch must be left for copies."
            )

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """The made-up messages of :class:`tracemend.mend.Regularise`, and a tiny encoder tuned for two epochs."""
        from tracemend.mend.regularise import Regularise

        regularise, model, splits = Regularise.tiny()
        tuning = replace(regularise.tuning, epochs=2)
        # A tiny model's embeddings are random: every word is as near as any other.
        return cls(similarity=-1.0, apart=0.5, copies=2, checked=6, tuning=tuning), model, splits


def _mean(values: Any) -> float:
    found = np.asarray(values, dtype=np.float64)
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")
