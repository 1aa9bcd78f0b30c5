"""A store that any process can build: the same tiny model, data and checkpoints everywhere."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from tracemend.data import Labelled
from tracemend.models import tiny
from tracemend.trace.store import GradientStore
from tracemend.tuning import Checkpoint, TextClassifier

LABELS = ("safe", "unsafe")
ROWS, SHARD_ROWS = 96, 4
_WORDS = ("love", "great", "nice", "happy", "thanks", "please", "hate", "awful", "terrible", "bad", "sad", "toxic")

# Children are forked from a process that has imported everything already.
warm = multiprocessing.get_context("forkserver")
warm.set_forkserver_preload(["tests.trace.store.job"])


def examples(n: int = ROWS) -> Labelled:
    """Texts of unequal length, some with a reply."""
    texts = [" ".join(_WORDS[(i * 7 + j) % 12] for j in range(1 + i % 9)) + f" {i}" for i in range(n)]
    replies = [None if i % 3 else f"no {i}" for i in range(n)]
    return Labelled.make(texts, [LABELS[i % 2] for i in range(n)], replies=replies, label_names=LABELS)


def classifier(kind: str = "lora") -> TextClassifier:
    """A tiny encoder with an adapter."""
    return TextClassifier(tiny("bert"), LABELS, kind=kind, virtual_tokens=3, rank=2, max_length=32)


def checkpoints(made: TextClassifier, steps: int = 2) -> list[Checkpoint]:
    """Random states with moments, held in memory."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for step in range(1, steps + 1):
        state = {n: 0.2 * torch.randn(p.shape, generator=generator) for n, p in made.state().items()}
        moments = {n: torch.rand(p.shape, generator=generator) for n, p in state.items()}
        found.append(Checkpoint(step=step, lr_sum=0.5 / step, state=state, moments=moments))
    return found


def build(path: Path, **options: Any) -> GradientStore:
    """Build the store, or what it lacks."""
    made = classifier()
    options = {"shard_rows": SHARD_ROWS, **options}
    return GradientStore.build(path, made, examples(), checkpoints(made), **options)


def in_process(path: Path, number: int = 0, world: int = 1, meet: Path | None = None, **options: Any) -> None:
    """What a process of several does; with ``meet`` they belong to a gloo group, as a launcher's may."""
    # Shells start background jobs deaf to SIGINT, and a process takes that over from its parent.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    os.environ.update(RANK=str(number), WORLD_SIZE=str(world))
    if meet is not None:
        torch.distributed.init_process_group("gloo", init_method=f"file://{meet}", rank=number, world_size=world)
    build(path, **options)


def start(path: Path, *arguments: Any, target: Callable[..., None] = in_process, **options: Any) -> ForkServerProcess:
    """Start :func:`in_process` in a process of its own."""
    process = warm.Process(target=target, args=(path, *arguments), kwargs=options)
    process.start()
    return process


def files(path: Path) -> dict[str, str]:
    """Sha256 of every file of a store by its name, temporary ones and claims included."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }
