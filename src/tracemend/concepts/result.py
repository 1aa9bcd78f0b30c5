"""What every method on concepts gives back: figures, controls, and in words what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracemend.methods import MethodResult
from tracemend.runs import write_json, write_parquet


@dataclass(frozen=True, kw_only=True)
class ConceptsResult(MethodResult):
    """What was found about concepts.

    Attributes:
        findings: sentences for a person; where a control is as good as the result, they say so.
        facts: sizes, model and data: what the figures are about.
    """

    findings: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def save(self, directory: Path | str) -> Path:
        """Write ``method.json`` and ``rows.parquet``; :meth:`load` reads them back."""
        path = Path(directory)
        names = ("metrics", "controls", "config", "facts")
        facts = {name: dict(getattr(self, name)) for name in names}
        write_parquet(path / "rows.parquet", self.rows)
        write_json(path / "method.json", {**facts, "findings": list(self.findings)})
        return path
