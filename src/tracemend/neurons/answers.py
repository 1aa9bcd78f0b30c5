"""Explanations that a language model was asked for, kept one by one."""

from __future__ import annotations

from pathlib import Path

from tracemend.runs import Lines


class Answers:
    """Explanations by unit, one line of a file each, so that a stopped run goes on and nothing is asked twice.

    Args:
        folder: where the file lies; without one they live as long as this object.
        identity: of what was asked: other questions have a file of their own.
    """

    def __init__(self, folder: Path | None, identity: str) -> None:
        self._lines = Lines(None if folder is None else folder / f"explanations-{identity}.jsonl")
        self.known: dict[tuple[str, int], str] = {
            (str(row["of"]), int(row["unit"])): str(row["explanation"])
            for row in self._lines
            if {"of", "unit"} <= row.keys() and row.get("explanation")
        }

    def get(self, of: str, unit: int) -> str | None:
        """The explanation of a unit, or None."""
        return self.known.get((of, unit))

    def put(self, of: str, unit: int, text: str) -> None:
        """Keep an explanation.

        Raises:
            RunError: the disk is full or not writable.
        """
        self.known[of, unit] = text
        self._lines.add({"of": of, "unit": unit, "explanation": text})
