"""What all arms of one repair share: the model, the data, the corrupted tuning, the embeddings."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tracemend.data import Labelled, Splits
from tracemend.errors import NoSignalError, TraceError
from tracemend.evaluate import threshold
from tracemend.mend.acts import Kinds
from tracemend.mend.bounds import NoiseRate, noise_rate
from tracemend.mend.judgement import Verdict, beside_start, compare, verdict
from tracemend.mend.ranking import (
    Arm,
    Ranking,
    by_chance,
    by_consensus,
    by_influence,
    by_similarity,
    with_posterior,
)
from tracemend.mend.rounds import ArmResult, measure, repair_arm
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.runs import RunDirectory
from tracemend.trace import embed, nearest_opposite, out_of_fold_probabilities
from tracemend.trace.calibration import LAYERS
from tracemend.trace.consensus import consensus
from tracemend.trace.cross import Crossed, cross_posterior, trusted_posterior
from tracemend.trace.groups import groups_of
from tracemend.tuning import Checkpoint, Kind, Tuned, tune
from tracemend.tuning.checkpoints import save_checkpoint
from tracemend.tuning.tune import resolve_precision

if TYPE_CHECKING:
    from tracemend.mend.loop import Repair

Floats = npt.NDArray[np.floating[Any]]
# The adapter of the models that judge the other folds, whichever the classifier itself has.
_JUDGES: Kind = "lora"
# Examples whose nearest neighbours are sought at once.
_BLOCK = 256


class Bench:
    """One model, one data set, one corrupted tuning: what all arms of a repair share.

    Args:
        first: figures of the start.
        run: keeps what took long, for a run that is resumed; None keeps nothing.
        checked: whether somebody vouches for the validation and verdict labels, whatever ``rules`` make of them.
    """

    def __init__(
        self,
        rules: Repair,
        model: LanguageModel,
        splits: Splits,
        start: Tuned,
        first: Mapping[str, Mapping[str, float]],
        progress: Progress,
        run: RunDirectory | None = None,
        checked: bool = True,
    ) -> None:
        self.rules, self.model, self.splits, self.start = rules, model, splits, start
        self.first, self.progress, self.run, self.checked = first, progress, run, checked
        self.state = start.best.load_state()
        self.precision = resolve_precision(rules.tuning.precision, start.classifier.device)
        self._embedded: dict[tuple[str, int], Floats] = {}

    def embedded(self, data: Labelled, name: str, layers: int = 1) -> Floats:
        """Sentence embeddings of the untuned model [n, layers * D], taken once for all examples of a split."""
        rules, whole = self.rules, self.splits.train if name == "train" else self.splits.validation
        # Where several layers judge the labels, the last of them is among these: one pass is enough.
        taken = LAYERS if rules.rank == "consensus" or rules.validation == "noisy" else layers
        key = name, taken
        if key not in self._embedded:
            length = rules.tuning.max_length
            self._embedded[key] = embed(
                self.model, whole.pairs, layers=taken, max_length=length, progress=self.progress
            )
        found = self._embedded[key]
        if layers == 1 and found.shape[1] > self.model.hidden_size:
            found = found[:, -self.model.hidden_size :] * taken**0.5
        if name != "train" or data is whole:
            return found
        row = {uid: i for i, uid in enumerate(whole.uid)}
        return found[[row[uid] for uid in data.uid]]

    def noise_rate(self) -> NoiseRate:
        """Share of wrong labels by the posterior on frozen embeddings, with its interval and a second estimate."""
        train, validation, seed = self.splits.train, self.splits.validation, self.rules.seed
        features = self.embedded(train, "train")
        if self.rules.validation == "noisy":
            crossed = self._crossed(train)
            if not crossed.told:
                raise NoSignalError(
                    "the labels carry no signal that could tell right from wrong: out of fold, a classifier on the "
                    "untuned model's embeddings does not tell them better than chance (an average precision that the "
                    "tuned one reached was measured on the same labels). Have some texts labelled by somebody you "
                    "trust and give them with --valid, or check that the label column is the right one. Nothing was "
                    "changed."
                )
            wrong = crossed.wrong[: len(train)]
        elif self.rules.rank == "consensus":
            wrong = 1.0 - self.beliefs[np.arange(len(train)), train.y]
        else:
            trusted = self.embedded(validation, "validation")
            posterior = self._believed((features @ trusted.T, trusted @ trusted.T), train)
            wrong = 1.0 - posterior[np.arange(len(train)), train.y]
        given = out_of_fold_probabilities(features, train.y, len(train.labels), seed=seed)
        return noise_rate(wrong, train.y, given, groups=groups_of(train), seed=seed)

    @cached_property
    def beliefs(self) -> npt.NDArray[np.float64]:
        """The posterior of the true labels of the whole training set by consensus [n, C]."""
        rules, train, validation = self.rules, self.splits.train, self.splits.validation
        tuning = None
        if rules.fold_epochs:
            # As the classifier is tuned, but for the adapter and how long; its learning rate is of its own adapter.
            tuning = replace(
                rules.tuning, adapter=_JUDGES, epochs=rules.fold_epochs, learning_rate=None, patience=0, seed=rules.seed
            )

        def work() -> Any:
            features = self.embedded(train, "train", LAYERS), self.embedded(validation, "validation", LAYERS)
            return consensus(
                self.model, train, validation, features, tuning,
                seed=rules.seed, out=folder, progress=self.progress,
            ).posterior.tolist()  # fmt: skip

        folder = None if self.run is None else self.run.path / "folds"
        found = work() if self.run is None else self.run.step("consensus", work)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)  # not before the step is kept
        return np.array(found, dtype=np.float64)

    def _crossed(self, train: Labelled) -> Crossed:
        """Training and validation labels, each judged by the others'; the training examples come first."""
        validation = self.splits.validation
        both = self.embedded(train, "train", LAYERS), self.embedded(validation, "validation", LAYERS)
        return cross_posterior(
            np.concatenate(both),
            np.concatenate([train.y, validation.y]),
            len(train.labels),
            groups=None if groups_of(train) is None else [*train.frame["group"], *validation.frame["group"]],
            seed=self.rules.seed,
        )

    def _believed(self, kernels: tuple[Floats, Floats], train: Labelled) -> npt.NDArray[np.float64]:
        """The posterior of the training labels where the validation labels are trusted."""
        trusted = self.splits.validation
        given, known = groups_of(train), groups_of(trusted)
        return trusted_posterior(
            *kernels, trusted.y, train.y, len(train.labels), groups=given, trusted_groups=known, seed=self.rules.seed
        )

    def _decided(self, ranking: Ranking, train: Labelled) -> Ranking:
        """The ranking with the posterior that decides, where the configuration asks for one."""
        if not self.rules.by_posterior:
            return ranking
        if self.rules.validation == "clean":
            if ranking.kernels is None:
                raise TraceError("the ranking rests on no fit to the validation labels; choose rank 'trusted'.")
            return with_posterior(ranking, train.y, self._believed(ranking.kernels, train))
        crossed, n = self._crossed(train), len(train)
        return with_posterior(_among(ranking, crossed.wrong[n:] <= 0.5), train.y, crossed.posterior[:n])

    def _consensus(self, train: Labelled) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """The posterior of the training labels [n, C], and which validation labels are believed [m]."""
        if self.rules.validation == "noisy":
            crossed, n = self._crossed(train), len(train)
            return crossed.posterior[:n], crossed.wrong[n:] <= 0.5
        row = {uid: i for i, uid in enumerate(self.splits.train.uid)}
        return self.beliefs[[row[uid] for uid in train.uid]], np.ones(len(self.splits.validation), dtype=bool)

    def arm(
        self, arm: Arm, budget: int | Sequence[Kinds], out: Path, *, at: int | None = None, cap: int | None = None
    ) -> ArmResult:
        """Run one arm with at most ``budget`` candidates a round; a sequence gives each round its kinds of act.

        Args:
            at: the round to choose, whatever the validation set says: a control is read where the repair is.
            cap: the most examples in all rounds together.
        """
        self.start.classifier.restore(self.state)
        each: list[int | Kinds] = [budget] * self.rules.rounds if isinstance(budget, int) else list(budget)
        if arm == "unchanged" and not self.rules.warm_start:
            each = each[:1]  # afresh on the same labels, only the order of the examples differs: once tells it
        counts = [sum(one) if isinstance(one, Kinds) else one for one in each]
        self.progress.note("arm", arm=arm, candidates=counts)
        # A control asks nobody and keeps to the number it is given: bounds of its own would make it act on others.
        rules = self.rules if arm == "repair" else replace(self.rules, fdr=None, ask=0)
        return repair_arm(
            arm,
            rules,
            self.model,
            self.splits,
            self.start,
            self.rules.tuning,
            None if arm == "unchanged" else self._ranker(arm),
            each,
            at=at,
            cap=cap,
            answers=self.rules.answers if arm == "repair" else None,
            out=out,
            neighbours=self._neighbours if arm == "repair" else None,
            measured=self.first,
            progress=self.progress,
        )

    def _ranker(self, arm: Arm) -> Any:
        validation = self.splits.validation

        def rank(tuned: Tuned, train: Labelled, number: int) -> Any:
            if arm == "repair" and self.rules.rank == "consensus":
                posterior, believed = self._consensus(train)
                ranking, p_train = by_consensus(
                    self.rules, tuned, train, validation, posterior, self.precision, progress=self.progress
                )
                return _among(ranking, believed), p_train
            if arm == "repair":
                both = self.embedded(train, "train"), self.embedded(validation, "validation")
                ranking, p_train = by_influence(self.rules, tuned, train, validation, both, progress=self.progress)
                return self._decided(ranking, train), p_train
            if self.rules.action == "remove":  # a removal asks for no other label: spare the pass
                p_train = np.full((len(train), len(train.labels)), 1.0 / len(train.labels))
            else:
                p_train = tuned.classifier.probabilities(train.pairs, precision=self.precision)
            if arm == "random":
                return by_chance(self.rules, number, train, validation, p_train), p_train
            logits = tuned.classifier.predict(validation.pairs, precision=self.precision)
            both = self.embedded(train, "train"), self.embedded(validation, "validation")
            return by_similarity(self.rules, both, train, validation, p_train, logits), p_train

        return rank

    def _neighbours(self, train: Labelled, rows: Sequence[int]) -> list[Mapping[str, Any]]:
        """Of each row its nearest example labelled otherwise; empty where there is none."""
        features, y = self.embedded(train, "train"), train.y
        made: list[Mapping[str, Any]] = []
        for begin in range(0, len(rows), _BLOCK):
            part = list(rows[begin : begin + _BLOCK])
            found, similarity = nearest_opposite(features[part], y[part], among=features, among_y=y)
            for at, cosine in zip(found, similarity, strict=True):
                near = train.frame.iloc[int(at)]
                facts = {**{c: near[c] for c in ("uid", "text", "reply", "label")}, "similarity": float(cosine)}
                made.append(facts if at >= 0 else {})
        return made

    def clean(self, out: Path) -> dict[str, Any]:
        """Figures of the same tuning on the true labels, and whether the wrong ones are shown to have ``cost`` AP.

        A share of a loss that may be none means nothing.
        """
        splits = self.splits
        tuned = tune(
            self.model, splits.train.with_truth_as_label(), splits.validation, self.rules.tuning,
            out=out, progress=self.progress,
        )  # fmt: skip
        figures = measure(tuned, splits)
        data = splits.verdict if splits.test is None else splits.test
        before, after = (self._predict(of.load_state(), data) for of in (self.start.best, tuned.best))
        lost = compare("ap", data, before, after, seed=self.rules.seed)
        return {**figures, "cost": lost.shown and lost.difference > 0}

    def _predict(self, state: Mapping[str, Any], data: Labelled) -> Floats:
        self.start.classifier.restore(state)
        return self.start.classifier.probabilities(data.pairs, precision=self.precision)

    def judge(self, arm: ArmResult, unchanged: ArmResult | None) -> Verdict:
        """Before against after, on the verdict set.

        Before is :meth:`original`: what more tuning brings is no merit of the repair, nor what it spoils.
        """
        data, original = self.splits.verdict, self.original(unchanged)
        if original is not self.start.best:
            against = "as much tuning on the unchanged labels"
        elif unchanged is None or not unchanged.chosen:
            against = "the start"
        else:
            against = "the start (more tuning on the unchanged labels was no better)"
        before, after = (self._predict(of.load_state(), data) for of in (original, arm.tuned.best))
        tried = len(arm.own)
        changed = 0 if arm.answered.empty else int((arm.answered["kind"] != "keep").sum())
        # The start was tuned before anybody answered: if it is the best, no classifier of the answers is judged.
        acted = changed + int(arm.own["kept"].sum() if tried else 0) if arm.chosen else 0
        found = verdict(
            data,
            before,
            after,
            acted=acted,
            tried=tried,
            answers=changed,
            against=against,
            noisy=self.rules.validation == "noisy" or not self.checked,
            seed=self.rules.seed,
        )
        if original is self.start.best:
            return found
        return beside_start(found, data, self._predict(self.start.best.load_state(), data), after, answers=changed)

    def threshold(self, checkpoint: Checkpoint) -> float | None:
        """From which probability the positive label is predicted, chosen on validation."""
        data = self.splits.validation
        return threshold(data.y, self._predict(checkpoint.load_state(), data), data.positive_index)

    def original(self, unchanged: ArmResult | None) -> Checkpoint:
        """What the labels as given can do: the start, or as much tuning on them where that is better on validation."""
        if unchanged is None:
            return self.start.best
        curve = unchanged.curve
        at = curve[(curve["split"] == "validation") & (curve["round"] == unchanged.chosen)]
        better = float(at["ap"].iloc[0]) > self.first["validation"]["ap"]
        return unchanged.tuned.best if better else self.start.best

    def save_adapters(self, out: Path, checkpoints: Mapping[str, Checkpoint]) -> None:
        """Write ``adapter-original`` and, where it is recommended, ``adapter-repaired`` in PEFT's format."""
        for name, checkpoint in checkpoints.items():
            self.start.classifier.restore(checkpoint.load_state())
            save_checkpoint(
                out / f"adapter-{name}",
                self.start.classifier,
                step=checkpoint.step,
                lr_sum=checkpoint.lr_sum,
                metrics={},
            )


def _among(ranking: Ranking, believed: npt.NDArray[np.bool_]) -> Ranking:
    """Errors on these validation examples alone: a label that is itself denied makes no error, and is no evidence."""
    if believed.all():
        return ranking
    return replace(ranking, signed=ranking.signed * believed, drivers=ranking.drivers * believed)
