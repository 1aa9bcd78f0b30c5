"""What all arms of one repair share: the model, the data, the corrupted tuning, the embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tracemend.data import Labelled, Splits
from tracemend.evaluate import threshold
from tracemend.mend.ranking import Arm, by_chance, by_influence, by_similarity, softmax
from tracemend.mend.rounds import ArmResult, measure, repair_arm
from tracemend.mend.verdict import Verdict, verdict
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.trace import embed, nearest_opposite, noise_estimate, out_of_fold_probabilities
from tracemend.tuning import Tuned, tune
from tracemend.tuning.checkpoints import save_checkpoint
from tracemend.tuning.tune import resolve_precision

if TYPE_CHECKING:
    from tracemend.mend.repair import Repair

Floats = npt.NDArray[np.floating[Any]]


class Bench:
    """One model, one data set, one corrupted tuning: what all arms of a repair share."""

    def __init__(
        self,
        rules: Repair,
        model: LanguageModel,
        splits: Splits,
        start: Tuned,
        first: Mapping[str, Mapping[str, float]],
        progress: Progress,
    ) -> None:
        self.rules, self.model, self.splits, self.start = rules, model, splits, start
        self.first, self.progress = first, progress
        self.state = start.best.load_state()
        self.precision = resolve_precision(rules.tuning.precision, start.classifier.device)
        self._embedded: dict[str, Floats] = {}

    def embedded(self, data: Labelled, name: str) -> Floats:
        """Sentence embeddings of the untuned model [n, D], taken once for all examples of a split."""
        if name not in self._embedded:
            whole = self.splits.train if name == "train" else self.splits.validation
            length = self.rules.tuning.max_length
            self._embedded[name] = embed(self.model, whole.pairs, max_length=length, progress=self.progress)
        if name != "train":
            return self._embedded[name]
        row = {uid: i for i, uid in enumerate(self.splits.train.uid)}
        return self._embedded[name][[row[uid] for uid in data.uid]]

    def estimate(self) -> float:
        """Share of wrong labels by the confident joint of out-of-fold probabilities on frozen embeddings."""
        train = self.splits.train
        p = out_of_fold_probabilities(self.embedded(train, "train"), train.y, len(train.labels), seed=self.rules.seed)
        return noise_estimate(train.y, p)

    def arm(self, arm: Arm, budget: int | Sequence[int], out: Path, *, at: int | None = None) -> ArmResult:
        """Run one arm with at most ``budget`` candidates a round; a sequence gives each round its own.

        Args:
            at: the round to choose, whatever the validation set says: a control is read where the repair is.
        """
        self.start.classifier.restore(self.state)
        each = [budget] * self.rules.rounds if isinstance(budget, int) else list(budget)
        if arm == "unchanged" and not self.rules.warm_start:
            each = each[:1]  # afresh on the same labels, only the order of the examples differs: once tells it
        self.progress.note("arm", arm=arm, candidates=each)
        return repair_arm(
            arm,
            self.rules,
            self.model,
            self.splits,
            self.start,
            self.rules.tuning,
            None if arm == "unchanged" else self._ranker(arm),
            each,
            at=at,
            out=out,
            neighbours=self._neighbour if arm == "influence" else None,
            measured=self.first,
            progress=self.progress,
        )

    def _ranker(self, arm: Arm) -> Any:
        validation = self.splits.validation

        def rank(tuned: Tuned, train: Labelled, number: int) -> Any:
            if arm == "influence":
                both = self.embedded(train, "train"), self.embedded(validation, "validation")
                return by_influence(self.rules, tuned, train, validation, both, progress=self.progress)
            if self.rules.action == "remove":  # a removal asks for no other label: spare the pass
                p_train = np.full((len(train), len(train.labels)), 1.0 / len(train.labels))
            else:
                p_train = softmax(tuned.classifier.predict(train.pairs, precision=self.precision))
            if arm == "random":
                return by_chance(self.rules, number, train, validation, p_train), p_train
            logits = tuned.classifier.predict(validation.pairs, precision=self.precision)
            both = self.embedded(train, "train"), self.embedded(validation, "validation")
            return by_similarity(self.rules, both, train, validation, p_train, logits), p_train

        return rank

    def _neighbour(self, train: Labelled, row: int) -> Mapping[str, Any]:
        all_of_them = self.embedded(train, "train")
        one = slice(row, row + 1)
        found, similarity = nearest_opposite(all_of_them[one], train.y[one], among=all_of_them, among_y=train.y)
        if found[0] < 0:
            return {}
        example = train.frame.iloc[int(found[0])]
        return {**{c: example[c] for c in ("uid", "text", "reply", "label")}, "similarity": float(similarity[0])}

    def clean(self, out: Path) -> dict[str, Any]:
        """Figures of the same tuning on the true labels: what there was to lose."""
        truth = self.splits.train.with_truth_as_label()
        tuned = tune(self.model, truth, self.splits.validation, self.rules.tuning, out=out, progress=self.progress)
        return measure(tuned, self.splits)

    def _predict(self, state: Mapping[str, Any], data: Labelled) -> Floats:
        self.start.classifier.restore(state)
        return softmax(self.start.classifier.predict(data.pairs, precision=self.precision))

    def judge(self, arm: ArmResult, unchanged: ArmResult | None) -> Verdict:
        """Before against after, on the verdict set.

        Before is the start, or what going on with the unchanged labels made of it: what more tuning brings is no
        merit of the repair.
        """
        data = self.splits.verdict
        state = self.state if unchanged is None else unchanged.tuned.best.load_state()
        against = "the start" if unchanged is None else "as much tuning on the unchanged labels"
        before, after = self._predict(state, data), self._predict(arm.tuned.best.load_state(), data)
        acted = int(arm.decisions["kept"].sum()) if len(arm.decisions) else 0
        return verdict(
            data, before, after, acted=acted, tried=len(arm.decisions), against=against, seed=self.rules.seed
        )

    def threshold(self, arm: ArmResult | None) -> float | None:
        """From which probability the positive label is predicted, chosen on validation."""
        state = self.state if arm is None else arm.tuned.best.load_state()
        data = self.splits.validation
        return threshold(data.y, self._predict(state, data), data.positive_index)

    def save_adapters(self, out: Path, arm: ArmResult | None) -> None:
        """Write ``adapter-original`` and, where it is recommended, ``adapter-repaired`` in PEFT's format."""
        found = {"original": self.start.best, **({"repaired": arm.tuned.best} if arm is not None else {})}
        for name, checkpoint in found.items():
            self.start.classifier.restore(checkpoint.load_state())
            save_checkpoint(
                out / f"adapter-{name}",
                self.start.classifier,
                step=checkpoint.step,
                lr_sum=checkpoint.lr_sum,
                metrics={},
            )
