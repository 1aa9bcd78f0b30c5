"""Explanations that a language model was asked for, kept one by one."""

from __future__ import annotations

import json
from pathlib import Path

from tracemend.runs import explained


class Answers:
    """Explanations by unit, one line of a file each, so that a stopped run goes on and nothing is asked twice.

    Args:
        folder: where the file lies; without one they live as long as this object.
        identity: of what was asked: other questions have a file of their own.
    """

    def __init__(self, folder: Path | None, identity: str) -> None:
        self.path = None if folder is None else folder / f"explanations-{identity}.jsonl"
        self.known: dict[tuple[str, int], str] = {}
        if self.path is not None and self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                    text = str(row["explanation"])
                    if text:
                        self.known[str(row["of"]), int(row["unit"])] = text
                except (ValueError, KeyError, TypeError):
                    # The last line of a run that was killed.
                    continue

    def get(self, of: str, unit: int) -> str | None:
        """The explanation of a unit, or None."""
        return self.known.get((of, unit))

    def put(self, of: str, unit: int, text: str) -> None:
        """Keep an explanation.

        Raises:
            RunError: the disk is full or not writable.
        """
        self.known[of, unit] = text
        if self.path is None:
            return
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"of": of, "unit": unit, "explanation": text}, ensure_ascii=False) + "\n")
