"""What every probe gives back: figures, controls, and in words what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracemend.methods import MethodResult
from tracemend.runs import write_json, write_parquet


@dataclass(frozen=True, kw_only=True)
class ProbeResult(MethodResult):
    """What a probe found.

    Attributes:
        findings: sentences for a person; where a control is as good as the result, they say so.
        facts: sizes, chosen layer, model and data: what the figures are about.
    """

    findings: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def save(self, directory: Path | str) -> Path:
        """Write ``method.json`` and ``rows.parquet``; :meth:`load` reads them back."""
        path = Path(directory)
        names = ("metrics", "controls", "config", "facts")
        write_parquet(path / "rows.parquet", self.rows)
        write_json(
            path / "method.json", {**{n: dict(getattr(self, n)) for n in names}, "findings": list(self.findings)}
        )
        return path


def compared(what: str, control: str, difference: float, low: float, high: float) -> str:
    """Say whether a result beats its control.

    Example:
        >>> compared("layer 2", "random weights", 0.2, 0.15, 0.25)
        'layer 2 beats random weights by 0.200 (0.150 to 0.250).'
    """
    interval = f"{difference:+.3f} ({low:+.3f} to {high:+.3f})"
    if low > 0:
        return f"{what} beats {control} by {difference:.3f} ({low:.3f} to {high:.3f})."
    if high < 0:
        return f"{what} is worse than {control}: {interval}. The figure shows nothing that {control} lacks."
    return f"{what} is not shown to be better than {control}: {interval}. {control} does as well."
