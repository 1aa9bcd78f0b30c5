"""G-BAIR: find the wrong labels behind a classifier's errors, repair them, tune again, and judge what came of it.

Mozes et al. 2023, "Gradient-Based Automated Iterative Recovery for Parameter-Efficient Tuning" (arXiv 2302.06598).
Every choice of the paper's loop is a field here; the preset ``gbair`` is the loop as reconstructed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from tracemend.data import Labelled, Splits
from tracemend.errors import DataError, TuningError, did_you_mean
from tracemend.mend.bench import Bench
from tracemend.mend.bounds import NoiseRate, refuse_noise
from tracemend.mend.clock import Clock
from tracemend.mend.decide import Policy, candidates_per_round
from tracemend.mend.notes import notes
from tracemend.mend.questions import answered
from tracemend.mend.ranking import Arm, Rank, Validation, check_controls, check_kernel, check_posterior
from tracemend.mend.result import RepairResult, acted_each_round, figures, keep, load_result
from tracemend.mend.rounds import ArmResult, measure
from tracemend.methods import Method
from tracemend.models import LanguageModel
from tracemend.progress import EventLog, Progress
from tracemend.runs import RunDirectory
from tracemend.trace import TracIn
from tracemend.trace.candidates import Drivers
from tracemend.tuning import Tuning, tune


@dataclass(frozen=True, kw_only=True)
class _About:
    """What whoever runs a repair says of it; see :meth:`Repair.run`."""

    command: str
    command_line: str
    data: str
    names: Mapping[str, str] | None
    checked: bool


@dataclass(frozen=True, kw_only=True)
class Repair(Method[RepairResult]):
    """Find the wrong training labels behind validation errors, remove or relabel, tune again, and judge.

    Attributes:
        tuning: how the classifier is tuned.
        tracin: how influence is taken: normalisation, optimizer, parameters, aggregation over layers.
        rank: ``consensus`` (the posterior of the true label by frozen states and by models tuned on the other folds,
            see :func:`tracemend.trace.consensus`, which then decides), ``trusted`` (fit to the validation set in the
            gradient kernel), ``votes`` (top-k counts, the paper's), ``mean`` or ``weighted`` influence. Whatever ranks,
            a suspect is explained by its influence.
        fold_epochs: of the models tuned on the other folds, for ``consensus``; 0 leaves them out, and with them most of
            the time that it takes.
        drivers: validation examples that drive ``votes``, ``mean`` and ``weighted``, and the evidence.
        checkpoints: ``last``, or ``all`` of the tuning weighted by their learning rates; a warm round counts as one.
        top_k: opponents of a driver that get its vote.
        action: ``remove``, ``relabel`` or ``auto``: whichever gains more, which with two labels is always to relabel.
        rounds: at most.
        candidates: examples a round; None takes noise estimate x N / rounds.
        noise: share of wrong labels; None estimates it: by the confident joint, or by the posterior where that decides.
        warm_start: each round goes on from the one before, for ``warm_epochs``; else tunes afresh.
        stop: ``best`` keeps the round with the best validation AP, ``fixed`` the last.
        fdr: decide by expected gain under a posterior of the true label, and act on the longest prefix of suspects
            of which at most this share is expected to be right; None does not bound it.
        validation: ``clean`` trusts the validation labels; ``noisy`` trusts none, and judges every label, of training
            and validation, by the others'. Then, too, the posterior decides.
        ask: questions to a person a round, where an answer gains most; they wait in ``questions.csv``. Above 0 the
            posterior decides.
        answers: labels that a person gave, by uid; they are carried out first.
        controls: arms that run beside it, relabelling and removing as many examples in each round: ``random``
            candidates, sentence ``similarity`` in place of influence, and ``unchanged`` labels, which the verdict
            compares with.

    Example:
        >>> result = Repair(tuning=Tuning(adapter="prompt")).run(load("minilm"), splits)
        >>> result.verdict.sentence
    """

    name: ClassVar[str] = "mend.repair"
    inputs: ClassVar[str] = "Splits"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"encoder", "decoder", "encoder-decoder", "labels", "gradients", "validation"}
    )
    at_least: ClassVar = {"rounds": 1, "candidates": 1, "top_k": 1, "warm_epochs": 1, "fold_epochs": 0, "ask": 0}

    tuning: Tuning = field(default_factory=Tuning)
    tracin: TracIn = field(default_factory=TracIn)
    rank: Rank = "consensus"
    fold_epochs: int = 3
    drivers: Drivers = "misclassified"
    checkpoints: Literal["last", "all"] = "last"
    top_k: int = 20
    action: Policy = "auto"
    rounds: int = 3
    candidates: int | None = None
    noise: float | None = None
    warm_start: bool = True
    warm_epochs: int = 2
    stop: Literal["best", "fixed"] = "best"
    controls: tuple[Arm, ...] = ("random", "similarity", "unchanged")
    fdr: float | None = None
    validation: Validation = "clean"
    ask: int = 0
    answers: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise is not None and not 0 <= self.noise <= 1:
            raise TuningError(f"noise is {self.noise}; it is a share of the labels, from 0 to 1.")
        check_posterior(self)
        check_controls(self.controls)

    @property
    def by_posterior(self) -> bool:
        """Whether a posterior of the true label decides, and not influence alone."""
        return self.rank == "consensus" or self.fdr is not None or self.ask > 0 or self.validation == "noisy"

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """A named configuration: ``default``, or ``gbair`` as reconstructed from the paper.

        Raises:
            TuningError: no such preset.
        """
        if name not in PRESETS:
            raise TuningError(f"preset {name!r} is {did_you_mean(name, PRESETS)}")
        chosen = {**PRESETS[name], **changes}
        if name == "gbair" and "tuning" not in changes:
            chosen["tuning"] = Tuning(adapter="prompt", seed=chosen.get("seed", 0))
        return cls(**chosen)

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        from tracemend.data import corrupt, make_splits
        from tracemend.models import tiny

        words = ["kind", "warm", "calm", "glad", "cruel", "harsh", "cold", "grim"]
        rng = np.random.default_rng(0)
        labels = [i % 2 for i in range(128)]
        texts = [f"{' '.join(rng.choice(words[4 * y : 4 * y + 4], 3))} {i}" for i, y in enumerate(labels)]
        data = corrupt(Labelled.make(texts, [("safe", "unsafe")[y] for y in labels]), rate=0.25)
        tuning = Tuning(adapter="prompt", epochs=1, virtual_tokens=2, batch_size=8, precision="fp32", max_length=16)
        return (
            cls(tuning=tuning, rounds=1, warm_epochs=1, fold_epochs=1, top_k=3),
            tiny("bert"),
            make_splits(data, seed=0),
        )

    def run(
        self,
        model: LanguageModel,
        data: Splits,
        *,
        progress: Progress = Progress(),
        out: Path | None = None,
        command: str = "repair",
        command_line: str = "",
        data_name: str = "data",
        names: Mapping[str, str] | None = None,
        checked: bool = True,
    ) -> RepairResult:
        """Repair the training set of ``data``.

        Args:
            out: run directory: kept, and resumed where it is there; None keeps nothing.
            command: ``repair`` or ``demo``, as result.json names it.
            command_line: what replays the run, for the report.
            data_name: as the report calls the data.
            names: the user's names of canonical columns, such as ``{"text": "comment"}``, for the repaired set.
            checked: whether somebody vouches for the labels of the other parts. Where nobody does, and ``validation``
                is ``clean`` all the same, the verdict says that it is judged by labels that may be wrong.

        Raises:
            TracemendError: of any kind its parts raise; what was done so far is in ``out``.
        """
        if not isinstance(data, Splits):
            raise DataError(
                f"a repair takes Splits, not {type(data).__name__}: it needs parts to rank on and to judge by. "
                "Make them with tracemend.data.make_splits(data), or give your data to tracemend.repair."
            )
        about = _About(
            command=command,
            command_line=command_line,
            data=data_name,
            names=names,
            checked=checked,
        )
        if out is None:
            with tempfile.TemporaryDirectory(prefix="tracemend-") as folder:
                return replace(self._run(model, data, Path(folder) / "run", about, progress), folder=None)
        return self._run(model, data, out, about, progress)

    def _run(self, model: LanguageModel, splits: Splits, out: Path, about: _About, progress: Progress) -> RepairResult:
        check_kernel(self, len(splits.labels))
        answered(splits.train, self.answers or {})  # refused before any work
        prints = {"model": model.fingerprint, **splits.fingerprints}
        run = RunDirectory(out, command=about.command, config=self.config, fingerprints=prints)
        if run.result is not None:
            return load_result(out, splits)
        log = out / "events.jsonl"
        progress = clock = Clock(out / "seconds.json", EventLog(log, progress), begun=log.exists())
        start = tune(model, splits.train, splits.validation, self.tuning, out=out / "tuning", progress=progress)
        first = run.step("start", lambda: measure(start, splits))
        clock.keep()
        bench = Bench(self, model, splits, start, first, progress, run, about.checked)
        rate = self._noise(bench, run)
        clock.keep()
        budget, cap = self._bounds(rate)
        arms = {"repair": bench.arm("repair", budget, out / "arms" / "repair", cap=cap)}
        final = arms["repair"]
        # The controls relabel and remove as many examples in each round, and are read at the same round.
        spent = acted_each_round(final)
        arms |= {arm: bench.arm(arm, spent, out / "arms" / arm, at=final.chosen) for arm in self.controls}
        clean, cost = None, True
        if splits.train.has_truth and splits.train.wrong.any():
            clean = dict(run.step("clean", lambda: bench.clean(out / "tuning-clean")))
            cost = clean.pop("cost", True)  # a grid hands in the figures alone, and judges the loss over its draws
            clock.keep()
        judged = bench.judge(final, arms.get("unchanged"))
        found = self._figures(splits, arms, first, clean, cost=cost)
        keep(out, splits, arms, first, clean, names=about.names)
        checkpoints = {"original": start.best}
        if judged.recommended == "repaired":
            checkpoints["repaired"] = final.tuned.best
        bench.save_adapters(out, checkpoints)
        seconds = clock.seconds
        run.finish(
            metrics={
                **found["repair"],
                **{f"{arm}_recovered_share": found[arm]["recovered_share"] for arm in self.controls},
                "estimated_noise": self._estimated(rate),
                **(rate.metrics if self.by_posterior else {}),
                **({} if self.noise is None else {"given_noise": self.noise}),
                "n_train": len(splits.train),
                "threshold": bench.threshold(checkpoints[judged.recommended]),
                "seconds": seconds,
            },
            controls={arm: {k: v for k, v in found[arm].items() if v is not None} for arm in self.controls},
            seconds=seconds,
            verdict=judged.facts,
            notes=[
                *splits.notes,
                *start.notes,
                *notes(self, rate, cap, final, splits),
            ],
            command_line=about.command_line,
            seeds={"seed": self.seed, "tuning": self.tuning.seed},
            data={
                "name": about.data,
                "labels": list(splits.labels),
                "positive": splits.train.positive,
                "sizes": {name: len(part) for name, part in splits.parts.items()},
                "checked": about.checked,
            },
            model={
                "name": model.name,
                "family": model.family,
                "adapter": self.tuning.adapter,
                "learning_rate": self.tuning.rate,
                "trainable_parameters": sum(p.numel() for p in start.classifier.trainable().values()),
            },
        )
        return load_result(out, splits)

    def _estimated(self, rate: NoiseRate) -> float:
        """The share of wrong labels by whatever decides."""
        return rate.rate if self.by_posterior else rate.by_joint

    def _bounds(self, rate: NoiseRate) -> tuple[int, int | None]:
        """The most to act on in a round, and in all; None where influence ranks and no share was given."""
        if self.noise is None:
            share, cap = self._estimated(rate), rate.most if self.by_posterior else None
            # With a rate of false discoveries that is what bounds a round; else the estimate does.
            if self.fdr is not None:
                share = rate.high
        else:
            share, cap = self.noise, round(self.noise * rate.n)
        return self.candidates or candidates_per_round(share, rate.n, self.rounds), cap

    def _figures(
        self,
        splits: Splits,
        arms: Mapping[str, ArmResult],
        first: Mapping[str, Mapping[str, float]],
        clean: Mapping[str, Mapping[str, float]] | None,
        *,
        cost: bool,
    ) -> dict[str, dict[str, Any]]:
        """The figures of every arm; what a person told earns none of them."""
        told = frozenset(self.answers or ())
        found = {name: figures(splits, arm, first, clean, cost=cost, told=told) for name, arm in arms.items()}
        if "random" in found and found["random"]["detection_ap"] is not None:
            # What a random order gives on average, in place of the one that was drawn.
            asked = [uid not in told for uid in splits.train.uid]
            found["random"]["detection_ap"] = float(splits.train.wrong[asked].mean())
        return found

    def _noise(self, bench: Bench, run: RunDirectory) -> NoiseRate:
        """The estimated share of wrong labels."""
        # A given share sets how many are acted on; whether the labels can be repaired at all is asked in any case, also
        # where influence decides: the confident joint ends at one half and does not look at the validation labels.
        rate = NoiseRate.of(run.step("noise-rate", lambda: bench.noise_rate().facts))
        refuse_noise(rate, trusted=self.validation == "clean" and bench.checked)
        return rate


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "gbair": {
        "rank": "votes",
        "drivers": "misclassified",
        "tracin": TracIn(parts=("prompt",)),
        "checkpoints": "last",
        "action": "remove",
        "candidates": 20,
        "rounds": 15,
        "warm_start": False,
        "stop": "fixed",
    },
}
