"""What all arms of one unit share: the draw, the tunings on corrupted and on clean labels, the default repair."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tracemend.data import Labelled
from tracemend.errors import NoSignalError
from tracemend.evaluate.grid import Unit
from tracemend.mend.job import configured
from tracemend.mend.loop import Repair
from tracemend.mend.proof.sets import draw
from tracemend.mend.result import RepairResult
from tracemend.mend.rounds import measure
from tracemend.models import LanguageModel
from tracemend.progress import EventLog, Progress
from tracemend.runs import RunDirectory, fingerprint, read_json, write_json
from tracemend.trace import embed
from tracemend.trace.detectors import Subject
from tracemend.tuning import Tuned, Tuning, tune
from tracemend.tuning.tune import resolve_precision

Figures = Mapping[str, float]


class Shared:
    """One unit in its run folder: whatever two arms need is done once, and read back after a stop.

    Args:
        unit: set, noise, rate and seed.
        settings: see :class:`tracemend.mend.proof.Job`.
        model: the untuned model.
        out: the unit's run folder.

    Raises:
        RunError: the folder holds a unit of other settings.
    """

    def __init__(
        self,
        unit: Unit,
        settings: Mapping[str, Any],
        model: LanguageModel,
        out: Path,
        progress: Progress = Progress(),
    ) -> None:
        self.unit, self.settings, self.model, self.out = unit, dict(settings), model, out
        self.noisy = bool(settings.get("noisy_validation", False))
        sizes = {name: settings[name] for name in ("train", "validation", "test")}
        self.splits = draw(unit, **sizes, noisy_validation=self.noisy)
        self.tuning: Tuning = self.repair("default").tuning
        prints = {"model": model.fingerprint, **self.splits.fingerprints}
        config = {"tuning": self.tuning.config, **unit._asdict()}
        self.run = RunDirectory(out, command="proof", config=config, fingerprints=prints)
        self.progress = EventLog(out / "events.jsonl", progress)

    def repair(self, preset: str, **changes: Any) -> Repair:
        """A preset with the tuning that all arms have; without control arms, which are arms of the proof here."""
        given = {name: self.settings[name] for name in ("adapter", "epochs", "max_length")}
        if self.noisy and preset == "default":
            given["validation"] = "noisy"
        return configured(preset, seed=self.unit.seed, patience=0, controls=(), **given, **changes)

    @cached_property
    def start(self) -> Tuned:
        """Tuned on the corrupted labels."""
        folder, splits = self.out / "tuning", self.splits
        fresh = not folder.exists()
        began = time.monotonic()
        tuned = tune(self.model, splits.train, splits.validation, self.tuning, out=folder, progress=self.progress)
        seconds = round(time.monotonic() - began, 3)
        # A tuning that was stopped in between has no time that could be compared.
        self.run.step("tuning-seconds", lambda: seconds if fresh else None)
        return tuned

    @property
    def tuning_seconds(self) -> float:
        """How long the first tuning took; NaN where it was stopped and resumed."""
        _ = self.start
        seconds = self.run.step("tuning-seconds", lambda: None)
        return float("nan") if seconds is None else float(seconds)

    @cached_property
    def first(self) -> Figures:
        """Figures of the start on the test part."""
        return dict(self.run.step("start", lambda: measure(self.start, self.splits)["verdict"]))

    @cached_property
    def clean(self) -> Figures:
        """Figures after the same tuning on the true labels, which is done once a draw."""
        return self.first if self._measured_clean is None else dict(self._measured_clean["verdict"])

    @cached_property
    def _measured_clean(self) -> Mapping[str, Any] | None:
        if not self.splits.train.wrong.any():
            return None
        truth = self.splits.train.with_truth_as_label()

        def work() -> Any:
            out = self.out / "tuning-clean"
            tuned = self._tuned(truth, out)
            return measure(tuned, self.splits)

        return dict(self.once_a_draw("clean", self.tuning, work))

    @property
    def ceiling(self) -> Tuning:
        """How models on the true labels are tuned: LoRA for five epochs, which knows more than a prompt does.

        Where the classifier is a head on frozen states, so is the ceiling.
        """
        given = self.tuning
        if given.adapter == "head":
            return given
        return Tuning(adapter="lora", epochs=5, max_length=given.max_length, patience=0, seed=given.seed)

    def once_a_draw(self, name: str, tuning: Tuning, work: Callable[[], Any]) -> Any:
        """Do work that rests on texts, true labels and this tuning alone, and read it in every unit of the draw."""
        prints = {**self.splits.fingerprints, "train": self.splits.train.with_truth_as_label().fingerprint}
        known = [self.model.fingerprint, prints, tuning.config]
        draws = self.out.parent.parent / "draws"
        path = draws / f"{self.unit.dataset}-{self.unit.seed}-{name}-{fingerprint(known)}.json"
        if not path.exists():
            write_json(path, work())
        return read_json(path)

    @cached_property
    def subject(self) -> Subject:
        """What the detectors look at; it keeps what several of them compute."""
        fast = resolve_precision("auto", self.start.classifier.device) == "bf16"
        return Subject(
            self.start.classifier, self.start.until_best(), self.splits, precision="bf16" if fast else "fp32"
        )

    @cached_property
    def default(self) -> tuple[RepairResult, float] | None:
        """The default repair from the shared start, and the seconds it took beyond that; None where it refuses."""
        try:
            return self.repaired("default", self.repair("default"))
        except NoSignalError:
            return None

    def repaired(self, name: str, method: Repair) -> tuple[RepairResult, float]:
        """Run a repair in a folder of its own, from the tunings that are there already; and its seconds.

        They are NaN where a part of it was done before its time was kept.
        """
        folder = self.out / "repairs" / name
        prints = {"model": self.model.fingerprint, **self.splits.fingerprints}
        run = RunDirectory(folder, command="repair", config=method.config, fingerprints=prints)
        _ = self.first
        if self._measured_clean is not None:
            run.step("clean", lambda: self._measured_clean)
        if not (folder / "tuning").exists():
            # Under its name only when it is whole: a copy that was cut short would be taken for the tuning.
            half = folder / "tuning.half"
            shutil.rmtree(half, ignore_errors=True)
            shutil.copytree(self.out / "tuning", half)
            half.rename(folder / "tuning")
        result = method.run(self.model, self.splits, out=folder, progress=self.progress)
        shutil.rmtree(folder / "tuning", ignore_errors=True)
        seconds = result.metrics.get("seconds")
        return result, float("nan") if seconds is None else float(seconds)

    def figures_on(self, train: Labelled) -> Figures:
        """Figures on the test part after the first tuning's configuration on another training set.

        A set that is as it was, or as it should be, was tuned on already: the same seed gives the same classifier.
        """
        if train.fingerprint == self.splits.train.fingerprint:
            return self.first
        if list(train.frame["label"]) == list(train.frame["truth"]) and len(train) == len(self.splits.train):
            return self.clean
        return measure(self._tuned(train), self.splits)["verdict"]

    def _tuned(self, train: Labelled, out: Path | None = None) -> Tuned:
        """As the first tuning, of which nothing but the end is looked at."""
        validation, tuning = self.splits.validation, self.tuning
        return tune(self.model, train, validation, tuning, out=out, curve=False, progress=self.progress)

    def embedded(self, data: Labelled) -> npt.NDArray[np.float32]:
        """Sentence embeddings by the untuned model [n, D]."""
        return embed(self.model, data.pairs, max_length=self.tuning.max_length, progress=self.progress)
