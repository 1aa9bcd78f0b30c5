"""Checkpoints that a trace can use: the adapter, the learning rates it stands for, the second moments."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tracemend.errors import RunError, TuningError
from tracemend.runs import differences, flush, read_json, write_json
from tracemend.tuning.adapted import Adapted

# Adam's by default.
BETA2 = 0.999
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a tuning after some steps.

    Attributes:
        step: optimizer steps so far.
        lr_sum: sum of the learning rates of the steps since the checkpoint before: its weight in TracIn.
        metrics: on validation, at this step.
        folder: where it lies; None for one held in memory.
        state: trainable parameters by name, where held in memory.
        moments: second moments of the optimizer (Adam's ``exp_avg_sq``) by parameter name, likewise.
        beta2: how much of the second moments a step of the optimizer kept: they began at 0 and are corrected by it.
    """

    step: int
    lr_sum: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    folder: Path | None = None
    state: Mapping[str, Tensor] | None = None
    moments: Mapping[str, Tensor] | None = None
    beta2: float = BETA2

    def load_state(self) -> Mapping[str, Tensor]:
        """Trainable parameters by name."""
        if self.state is not None:
            return self.state
        return _tensors(self._folder() / "parameters.safetensors")

    def second_moments(self) -> Mapping[str, Tensor]:
        """Second moments by parameter name.

        Raises:
            TuningError: the checkpoint was saved without its optimizer.
        """
        if self.moments is not None:
            return self.moments
        path = self._folder() / "second_moments.safetensors"
        if not path.exists():
            raise TuningError(
                f"{path} is missing: without the optimizer's state Adam-preconditioned scores cannot be had."
            )
        return _tensors(path)

    def _folder(self) -> Path:
        if self.folder is None:
            raise TuningError("the checkpoint is neither in memory nor on disk")
        return self.folder


def second_moments(optimizer: torch.optim.Optimizer, names: Mapping[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    """Adam's ``exp_avg_sq`` by parameter name (optimizers store it by position, which breaks when order changes).

    Returns:
        Empty where the optimizer keeps no second moments, as SGD.
    """
    found = {}
    for name, parameter in names.items():
        state = optimizer.state.get(parameter, {})
        if "exp_avg_sq" in state:
            found[name] = state["exp_avg_sq"].detach().to("cpu", copy=True)
    return found


def save_checkpoint(
    folder: Path,
    model: Adapted,
    *,
    step: int,
    lr_sum: float,
    metrics: Mapping[str, float],
    optimizer: torch.optim.Optimizer | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Write ``adapter-N``: PEFT's own files, the optimizer's state and ``checkpoint.json``, as one rename.

    Of a full tuning PEFT has no files: the parameters lie in ``parameters.safetensors`` alone, as those of all kinds.
    Where another process that does the same work was first, its checkpoint stays.

    Raises:
        RunError: the disk is full or not writable; the folder does not exist then.
    """
    # A name of its own: two processes may be given the same --out.
    making = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}.tmp")
    names = model.trainable()
    try:
        making.mkdir(parents=True)
        if model.kind != "full":  # PEFT would keep the head alone, and whoever loads it would miss the rest
            model.network.save_pretrained(str(making))
        save_file(model.state(), str(making / "parameters.safetensors"))
        if optimizer is not None:
            save_file(second_moments(optimizer, names), str(making / "second_moments.safetensors"))
            save_file(_first_moments(optimizer, names), str(making / "first_moments.safetensors"))
        kept = {} if optimizer is None else {"beta2": optimizer.param_groups[0].get("betas", (0.0, BETA2))[1]}
        facts = {"step": step, "lr_sum": lr_sum, "metrics": dict(metrics), **kept, **(extra or {})}
        write_json(making / "checkpoint.json", facts)
        flush(making)
        _place(making, folder)
    except (OSError, SafetensorError) as error:  # safetensors says in its own words that a disk is full
        full = any(getattr(error, "errno", None) == n or f"(os error {n})" in str(error) for n in _FULL)
        raise RunError(
            f"{'the disk is full: ' if full else ''}{folder} could not be written ({error}); earlier checkpoints are "
            f"unchanged. {'Free some space' if full else f'See that {folder.parent} can be written to'} and give the "
            "same command again; it resumes."
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return read_checkpoint(folder)


def _place(making: Path, folder: Path) -> None:
    with suppress(OSError):
        os.replace(making, folder)
        return
    facts = folder / "checkpoint.json"  # a folder with it is whole, since it was renamed into place
    if not facts.exists() or read_json(facts) != read_json(making / facts.name):
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(making, folder)


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in a folder that :func:`save_checkpoint` wrote; tensors are read when asked for."""
    facts = read_json(folder / "checkpoint.json")
    return Checkpoint(
        step=facts["step"], lr_sum=facts["lr_sum"], metrics=facts["metrics"], folder=folder,
        beta2=facts.get("beta2", BETA2),
    )  # fmt: skip


def checkpoints(run: Path) -> list[Checkpoint]:
    """All checkpoints of a run, earliest first."""
    folders = _folders(run)
    return sorted((read_checkpoint(f) for f in folders), key=lambda c: c.step)


def unbroken(run: Path, work: Mapping[str, Any] | None = None) -> list[Checkpoint]:
    """The checkpoints of a tuning that goes on from them, one an epoch: their folders are numbered 1 to n.

    Args:
        run: where they lie.
        work: configuration and fingerprints of the tuning that goes on; None compares nothing.

    Raises:
        TuningError: one is missing, so that the later ones are of epochs that would be counted wrongly, or they are of
            another tuning.
    """
    numbers = {int(folder.name[8:]) for folder in _folders(run)}
    missing = sorted(set(range(1, max(numbers, default=0) + 1)) - numbers)
    if missing:
        later = ", ".join(f"adapter-{number:04d}" for number in sorted(numbers) if number > missing[0])
        raise TuningError(
            f"the checkpoint {run / f'adapter-{missing[0]:04d}'} is missing, but there are later ones; delete "
            f"{later} and give the same command again (it goes on from what was before), bring the missing one back, "
            "or use another --out."
        )
    found = checkpoints(run)
    # Checkpoints of an earlier version do not say whose they are.
    there = read_json(found[-1]._folder() / "checkpoint.json").get("work") if found else None
    if there and work and (other := differences(there, work)):
        raise TuningError(
            f"the checkpoints in {run} are of another tuning ({'; '.join(other)}); choose another folder, or delete "
            "them."
        )
    return found


def _folders(run: Path) -> list[Path]:
    return [f for f in run.glob("adapter-*") if (f / "checkpoint.json").exists() and f.name[8:].isdigit()]


def resume_optimizer(optimizer: torch.optim.Optimizer, checkpoint: Checkpoint, model: Adapted) -> None:
    """Put parameters, both moments and the step count back, bit for bit."""
    model.restore(checkpoint.load_state())
    first = _tensors(checkpoint._folder() / "first_moments.safetensors")
    second = checkpoint.second_moments()
    for name, parameter in model.trainable().items():
        if name in second:
            optimizer.state[parameter] = {
                "step": torch.tensor(float(checkpoint.step)),
                "exp_avg": first[name].to(parameter.device).clone(),
                "exp_avg_sq": second[name].to(parameter.device).clone(),
            }


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{path} is missing or damaged ({error}); delete the folder {path.parent} and those numbered after it, and "
            "give the same command again: it goes on from what was before."
        ) from error


def _first_moments(optimizer: torch.optim.Optimizer, names: Mapping[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    kept = {name: optimizer.state.get(p, {}).get("exp_avg") for name, p in names.items()}
    return {name: m.detach().to("cpu", copy=True) for name, m in kept.items() if m is not None}
