"""One model at several steps of its training: read from checkpoints, or trained on the spot."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tracemend.circuits.attention_only import AttentionOnly, loss_of
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.method_runs import directory_of
from tracemend.models import LanguageModel, load
from tracemend.models.language_model import Family
from tracemend.models.load import quietly
from tracemend.progress import Progress
from tracemend.runs import fingerprint

# What a Trainer writes, and so do we.
_FOLDER = re.compile(r"checkpoint-(\d+)")
# Steps after which an attention-only model is looked at, and of its training: two layers learn to copy in 1,600.
EVERY, STEPS = 100, 1600


@dataclass(frozen=True, eq=False)
class Stages:
    """A model at several steps of its training, the earliest first; one of them is in memory at a time.

    Attributes:
        steps: of training, rising.
        get: gives the model of a step.
        name: of the model.
        fingerprint: of all stages and of those of ``beside``.
        beside: stages of another model as a control, such as one layer beside two, trained on the same texts.

    Example:
        >>> Stages.read("runs/pretraining").steps
        (0, 500, 1000)
    """

    family: ClassVar[Family] = "decoder"

    steps: tuple[int, ...]
    get: Callable[[int], LanguageModel]
    name: str
    fingerprint: str
    beside: Stages | None = None

    @classmethod
    def of(cls, models: Sequence[tuple[int, LanguageModel]]) -> Stages:
        """Models in memory with the steps that they were trained.

        Raises:
            CircuitError: fewer than two, or two of one step.
        """
        known = dict(sorted(models, key=lambda pair: pair[0]))
        if len(known) != len(models) or len(known) < 2:
            raise CircuitError(
                f"the steps are {[step for step, _ in models]}; expected two or more, each of them once."
            )
        told = fingerprint([(step, model.fingerprint) for step, model in known.items()])
        return cls(tuple(known), known.__getitem__, next(iter(known.values())).name, told)

    @classmethod
    def read(cls, folder: Path | str) -> Stages:
        """The checkpoints ``checkpoint-STEP`` of a folder, as a ``Trainer`` or :func:`kept_stages` writes them.

        Each must hold a whole model with its tokenizer.

        Raises:
            CircuitError: there are fewer than two.
        """
        path = Path(folder)
        named = {p: _FOLDER.fullmatch(p.name) for p in (path.iterdir() if path.is_dir() else ()) if p.is_dir()}
        places = {int(found.group(1)): place for place, found in named.items() if found}
        if len(places) < 2:
            raise CircuitError(
                f"{path} holds {len(places)} checkpoints; expected two or more folders checkpoint-STEP, each with a "
                "model and its tokenizer, or the name attention-only-1 or attention-only-2, which is trained on the "
                "spot."
            )
        steps = tuple(sorted(places))
        told = fingerprint([(step, _digest(places[step])) for step in steps])
        return cls(steps, lambda step: load(places[step]), str(path), told)

    def with_beside(self, other: Stages) -> Stages:
        """The same stages with another model's as control."""
        return dataclasses.replace(self, beside=other, fingerprint=fingerprint(self.fingerprint, other.fingerprint))

    def __iter__(self) -> Iterator[tuple[int, LanguageModel]]:
        for step in self.steps:
            yield step, self.get(step)


def trained(
    how: AttentionOnly, texts: Texts, *, every: int = EVERY, progress: Progress = Progress()
) -> tuple[LanguageModel, Stages]:
    """An attention-only model, and it as it was every so many steps of its training.

    Args:
        how: it is trained.
        texts: on which.
        every: how many steps.
        progress: shows the steps.

    Raises:
        CircuitError: as :meth:`AttentionOnly.fit`.
    """
    kept: list[tuple[int, LanguageModel]] = []

    def keep(step: int, model: LanguageModel) -> None:
        # Training goes on with the network itself.
        kept.append((step, dataclasses.replace(model, network=copy.deepcopy(model.network))))

    return how.fit(texts, progress=progress, watch=keep, every=every), Stages.of(kept)


def kept_stages(
    how: AttentionOnly, texts: Texts, folder: Path, *, every: int = EVERY, progress: Progress = Progress()
) -> Stages:
    """The stages of such a training from its run directory; trained and kept there if they are not there.

    Args:
        how: it is trained.
        texts: on which.
        folder: run directory; each stage is in its folder ``checkpoint-STEP``, which any ``--model`` takes.
        every: how many steps.
        progress: shows the steps.

    Raises:
        TakenError: the directory holds another run.
        CircuitError: as :meth:`AttentionOnly.fit`.
    """
    began = time.perf_counter()
    run = directory_of(
        folder,
        command="circuits.attention-only-stages",
        config={**dataclasses.asdict(how), "every": every},
        fingerprints={"data": texts.fingerprint},
    )
    if run.result is None:

        def keep(step: int, model: LanguageModel) -> None:
            with quietly():
                for part in (model.network, model.tokenizer):
                    part.save_pretrained(folder / f"checkpoint-{step}")

        model = how.fit(texts, progress=progress, watch=keep, every=every)
        first = load(folder / "checkpoint-0")
        run.finish(
            metrics={"loss": loss_of(model, texts)},
            controls={"untrained": {"loss": loss_of(first, texts)}},
            seconds=time.perf_counter() - began,
        )
    return Stages.read(folder)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), folder / "config.json"]):
        if path.is_file():
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
