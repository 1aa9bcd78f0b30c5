"""The other end of the drivers' protocol: a peer in its own process and environment, that waits for its turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.peers.case import Case
from benchmarks.peers.install import python_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Peer:
    """A library and a way to use it.

    Attributes:
        name: in tables.
        driver: ``DRIVER_.py``, and the name of its environment; ``vmap`` and ``loop`` need none of their own.
        variant: what the driver is told besides the case.
    """

    name: str
    driver: str
    variant: str = ""

    @property
    def python(self) -> Path:
        """The interpreter that runs the driver."""
        return Path(sys.executable) if self.driver in ("vmap", "loop") else python_of(self.driver)


PEERS = (
    Peer("captum, row by row", "captum"),
    Peer("captum, hooks", "captum", "hooks"),
    Peer("dattri", "dattri"),
    Peer("opacus", "opacus"),
    Peer("bergson", "bergson"),
    Peer("kronfluence", "kronfluence"),
    Peer("vmap(grad)", "vmap"),
    Peer("loop, batch 1", "loop"),
)


class Driver:
    """A running driver.

    Attributes:
        answer: what the peer said of the case: ``status`` ok or cannot, ``reason``, ``error``, ``version``.

    Example:
        >>> with Driver(PEERS[3], Case(model="minilm", adapter="lora")) as opacus:
        ...     opacus.seconds()
        0.71
    """

    def __init__(self, peer: Peer, case: Case) -> None:
        self.peer = peer
        self.answer: dict[str, Any] = {}
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(case.threads),
        }
        self._process: subprocess.Popen[str] | None = None
        if not peer.python.exists():
            self.answer = {"status": "missing", "reason": "not installed; run make bench-peers"}
            return
        self._process = subprocess.Popen(
            [str(peer.python), str(HERE / f"{peer.driver}_.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.answer = self._ask({"case": case.spec, "variant": peer.variant, "repeats": 0})

    @property
    def able(self) -> bool:
        """Whether the peer gives the gradients of this case."""
        return self.answer.get("status") == "ok"

    def seconds(self) -> float:
        """Time it once more; NaN where it has failed since, and then it is able no longer."""
        if self.able:
            answer = self._ask({"repeats": 1})
            if "seconds" in answer:
                return float(answer["seconds"][0])
            self.answer |= {"status": "cannot", "reason": f"worked once, then {answer.get('reason')}"}
        return float("nan")

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError(f"{self.peer.name} does not run: {self.answer.get('reason')}")
        line = ""
        # A process that has ended closes its pipes.
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            while line and not line.startswith("{"):  # what a library prints while it is imported
                line = process.stdout.readline()
        if not line:
            return {"status": "cannot", "reason": f"its process ended with code {process.wait()}"}
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End the driver's process, which ends with its input."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
