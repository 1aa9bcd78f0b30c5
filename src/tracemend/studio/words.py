"""Which words of a text matter to a version, who looks where in it, what a unit does: one narrow door to the model.

All need the model, and the server has none: a process of its own holds it (:mod:`tracemend.studio.speaker`),
started with the first question and ended with the server.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tracemend.errors import RunError

# Part (text or reply), a piece of it, and its weight from -1 to 1; None for what is no word or was not read.
Piece = tuple[str, str, float | None]
# Seconds until an answer, and before the first until the model is loaded, which of a large one takes minutes.
_PATIENCE = 120.0
_LOADING = 3600.0


@dataclass(frozen=True)
class Colours:
    """A text with how much its words speak for a label.

    Attributes:
        pieces: the text in reading order.
        fall: how far the label's probability falls without the weightiest words (``words``), and without as many words
            at random (``random``): what the weights are to be compared with. None where nothing was weighed.
    """

    pieces: list[Piece]
    fall: dict[str, float] | None = None


def available() -> bool:
    """Whether words can be coloured: whether there is a saliency room."""
    return find_spec("tracemend.saliency") is not None


class Speaker:
    """Asks the process that holds the model; one question at a time.

    Args:
        run: the run directory.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    def word_colours(self, version: str, text: str, label: str, *, reply: str | None = None) -> Colours:
        """The pieces of a text, each with how much it speaks for a label.

        Args:
            version: whose model is asked.
            text, reply: what the model reads.
            label: that the weights are about; positive speaks for it.

        Returns:
            Nothing where there is no saliency room.

        Raises:
            RunError: the process cannot say.
        """
        if not available():
            return Colours([])
        found = self._asked({"about": "words", "version": version, "text": text, "reply": reply, "label": label})
        return Colours([(part, piece, weight) for part, piece, weight in found["pieces"]], found["fall"])

    def answer(self, version: str, text: str, *, reply: str | None = None) -> dict[str, float]:
        """The probability of each label.

        Args:
            version: whose model is asked.
            text, reply: what the model reads.

        Raises:
            RunError: the process cannot say.
        """
        found: dict[str, float] = self._asked({"about": "answer", "version": version, "text": text, "reply": reply})[
            "probabilities"
        ]
        return found

    def attention(self, version: str, text: str, *, reply: str | None = None) -> dict[str, Any]:
        """Who looks where in a text: what the view of patterns draws (``report.attention_view``).

        Args:
            version: whose model is asked.
            text, reply: what the model reads.

        Raises:
            RunError: the process cannot say, or the text is too long for a page.
        """
        return self._asked({"about": "attention", "version": version, "text": text, "reply": reply})

    def unit(
        self, version: str, text: str, *, reply: str | None = None, site: str = "", unit: int | None = None
    ) -> dict[str, Any]:
        """What a unit does on a text (:func:`tracemend.studio.units.unit_view`), with the ``sites`` to choose from.

        Args:
            version: whose model is asked.
            text, reply: what the model reads.
            site: the unit's; empty for the neurons of the last block.
            unit: which; None for the one furthest above its usual highest.

        Raises:
            RunError: the process cannot say, or there is no such site or unit.
        """
        asked = {"about": "unit", "version": version, "text": text, "reply": reply, "site": site, "unit": unit}
        return self._asked(asked)

    def _asked(self, question: dict[str, Any]) -> dict[str, Any]:
        asked = json.dumps(question)
        with self._lock:
            process = self._started()
            if process.stdin is None:
                raise RunError("the process that colours words cannot be asked; start the studio again.")
            try:
                process.stdin.write(asked + "\n")
                process.stdin.flush()
                said = self._answers.get(timeout=_PATIENCE)
            except (OSError, queue.Empty) as error:
                self._end()
                raise RunError("the process that colours words does not answer; look at the text again.") from error
            if not said:  # its end is heard before the system calls it ended: the next question starts another
                self._end()
        found: dict[str, Any] = (
            json.loads(said) if said else {"error": "the process that colours words ended; look at the text again."}
        )
        if "error" in found:
            raise RunError(str(found["error"]))
        return found

    def close(self) -> None:
        """End the process, also while somebody waits for its answer."""
        if self._process is not None:
            self._process.kill()
        with self._lock:
            self._end()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._answers = queue.Queue()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tracemend.studio.speaker", str(self.run)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
            )
            threading.Thread(target=_listen, args=(self._process, self._answers), daemon=True).start()
            with contextlib.suppress(queue.Empty):
                if not self._answers.get(timeout=_LOADING):  # it ended, which the answer shall say
                    self._answers.put("")
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _listen(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
    for line in process.stdout or ():
        answers.put(line)
    answers.put("")  # it ended
