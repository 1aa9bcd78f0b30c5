"""Lines of a benchmark: what was expected, what was found, controls, and whether it holds; kept a file a seed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tracemend.runs import read_json


@dataclass(frozen=True, kw_only=True)
class Line:
    """One figure.

    Attributes:
        name: what it is.
        expected: of the prototype, or what must hold.
        found: ours.
        controls: the same figure of control arms.
        holds: whether what must hold does; None where nothing was fixed.
    """

    name: str
    expected: str
    found: float
    controls: Mapping[str, float] = field(default_factory=dict)
    holds: bool | None = None


def table(folder: Path, parts: Sequence[str]) -> str:
    """Everything kept, a row a figure: mean over seeds with the least and the most, controls, whether it holds."""
    made = []
    for part in parts:
        for model in sorted({path.stem.split("-")[-2] for path in folder.glob(f"{part}-*-*.json")}):
            runs = [read_json(path) for path in sorted(folder.glob(f"{part}-{model}-*.json"))]
            if not runs:
                continue
            made += ["", f"**{part}, {model}** ({len(runs)} seed{'s' * (len(runs) > 1)}, "
                     f"{np.mean([run['seconds'] for run in runs]):.0f} s each)", "",
                     "| | expected | found | controls | holds |", "| --- | --- | --- | --- | --- |"]  # fmt: skip
            of: dict[str, list[dict[str, Any]]] = {}
            for run in runs:
                for line in run["lines"]:
                    # What was found in words differs from seed to seed.
                    of.setdefault(re.sub(r": .*", "", line["name"]), []).append(line)
            made += [_row(name, lines) for name, lines in of.items()]
    return "\n".join(made)


def _row(name: str, lines: list[dict[str, Any]]) -> str:
    values = [float("nan") if line["found"] is None else float(line["found"]) for line in lines]
    said = f"{np.mean(values):.3f}" + (f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else "")
    arms = {arm: [line["controls"].get(arm) for line in lines] for arm in lines[0]["controls"]}
    controls = ", ".join(
        f"{arm.replace('_', ' ')} " + ("undefined" if None in of else f"{np.mean(of):.3f}") for arm, of in arms.items()
    )
    asked = [line["holds"] for line in lines if line["holds"] is not None]
    holds = (
        "" if not asked else "yes" if all(asked) else "**no**" if not any(asked) else f"{sum(asked)} of {len(asked)}"
    )
    return f"| {name} | {lines[0]['expected']} | {said} | {controls} | {holds} |"
