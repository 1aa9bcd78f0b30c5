"""How a driver talks: a case in, timings out, one JSON object a line.

    echo '{"case": {"model": "tiny-bert", "adapter": "lora", "length": 32}, "repeats": 3}' | python opacus_.py

The first line names the case; the answer says whether the peer gives its gradients. Every further line
``{"repeats": n}`` times it n times more, so that several peers can take turns on one machine. What a peer prints goes
to stderr.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.case import Case, Prepared, prepare
from tracemend.trace.gradients.engine import Loop, evaluation

# How far a peer's squared norms may be off, of the largest one, and of the largest one of the adapter's or the head's
# part, whichever is smaller: who leaves out a part is off by about one of the latter, who rounds by far less.
TOLERANCE = 1e-3
PART_TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a driver makes of a case.

    Attributes:
        once: the timed work: gradients of each example of the batch, or the scores that the peer makes of them.
        squares: the squared norm of each example's gradient [B], out of what ``once`` returned; not timed.
        note: why the norms may be others than expected.
    """

    once: Callable[[], Any]
    squares: Callable[[Any], Tensor]
    note: str = ""


def squared_norms(gradients: Any) -> Tensor:
    """Squared norms [B] of gradients given parameter by parameter, each [B, ...]."""
    return torch.stack([g.flatten(1).double().square().sum(1) for g in gradients]).sum(0)


def serve(peer: str, work: Callable[[Prepared, dict[str, Any]], Work]) -> None:
    """Answer the lines of stdin until it ends.

    Args:
        work: makes a case into work, given the first line as well; an error is the peer's reason why it cannot.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    warnings.filterwarnings("ignore")
    todo: Work | None = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        if "case" in request:
            todo, answer = _start(peer, work, request)
            # Some peers collect garbage in every call, which would be counted by the libraries that are loaded.
            gc.collect()
            gc.freeze()
        if todo is not None:
            answer["seconds"] = [_timed(todo.once) for _ in range(request.get("repeats", 0))]
        print(json.dumps(answer), file=answers, flush=True)


def _start(
    peer: str, work: Callable[[Prepared, dict[str, Any]], Work], request: dict[str, Any]
) -> tuple[Work | None, dict[str, Any]]:
    torch.manual_seed(0)
    case = Case(**request["case"])
    prepared = prepare(case)
    # Before the peer touches the network, which some of them rebuild.
    with evaluation(prepared.classifier.network):
        expected, smaller = _reference(prepared)
    answer: dict[str, Any] = {"peer": peer, "version": None if peer in ("vmap", "loop") else version(peer)}
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case.precision == "bf16"):
            todo = work(prepared, request)
            found = todo.squares(todo.once()).double()
    except Exception as error:
        # Whatever stops a peer is what the table reports.
        return None, answer | {"status": "cannot", "reason": f"{type(error).__name__}: {_short(str(error))}"}
    if found.shape != expected.shape:
        reason = f"gives {list(found.shape)} gradients for a batch of {case.batch}"
        return None, answer | {"status": "cannot", "reason": reason}
    off = float((found - expected).abs().max())
    answer["error"] = off / float(expected.max())
    if case.precision == "fp32" and not (answer["error"] <= TOLERANCE and off / smaller <= PART_TOLERANCE):
        reason = f"its squared norms are off by {answer['error']:.2g}, of the smaller part's by {off / smaller:.2g}"
        return None, answer | {"status": "cannot", "reason": f"{reason}; {todo.note}" if todo.note else reason}
    return todo, answer | {"status": "ok"}


def _reference(prepared: Prepared) -> tuple[Tensor, float]:
    """Squared norms [B], one example at a time, and the largest one of the smaller part."""
    loop = Loop(prepared.classifier)
    rows = loop(prepared.rows, prepared.y).gradients.double().square()
    head = torch.cat([torch.full((block.size,), block.group == "head") for block in loop.layout])
    parts = [float(rows[:, part].sum(1).max()) for part in (head, ~head) if part.any()]
    return rows.sum(1), min(parts)


def _short(message: str) -> str:
    return " ".join(message.split())[:300]


def _timed(once: Callable[[], Any]) -> float:
    began = time.perf_counter()
    once()
    return time.perf_counter() - began
