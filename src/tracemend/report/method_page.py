"""The report of a method that was run by itself: figures beside their controls, what was found in words, the table."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from tracemend.report import numbers
from tracemend.report.attention_view import attention_view, style
from tracemend.report.environment import environment
from tracemend.report.facts import facts
from tracemend.report.method_run import MethodRun

# Rows of the table that are shown, and shown when it is unfolded.
SHOWN, UNFOLDED = 15, 200
_CELL = 400
# Pages that a method leaves beside its report.
_PAGES = {"units.html": "What each unit is active on, as coloured text", "words.html": "The texts with coloured words"}


def method_page(run: MethodRun) -> str:
    """The page as a string. Everything that comes from the run is escaped."""
    rows = run.rows.head(UNFOLDED)
    names = [str(name) for name in rows.columns]
    cells = [[_cell(value) for value in row] for row in rows.itertuples(index=False)]
    view = attention_view(run.path)
    picture = f"data:image/svg+xml;base64,{base64.b64encode(run.figure).decode()}" if run.figure else ""
    return (
        environment()
        .get_template("method.html")
        .render(
            run=run,
            summary=run.result.get("summary", ""),
            command_line=run.result.get("command_line", ""),
            findings=run.found.get("findings", []),
            found=facts({**run.result, "data": {**run.result.get("data", {}), **_short(run.found.get("facts", {}))}}),
            driving=run.found.get("facts", {}).get("driving", []),
            pages=[(name, words) for name, words in _PAGES.items() if (run.path / name).is_file()],
            picture=picture,
            names=names,
            shown=cells[:SHOWN],
            folded=cells[SHOWN:],
            unlisted=len(run.rows) - len(cells),
            view=view,
            view_style=style() if view else "",
            policy=_policy([view.script] if view else []),
        )
    )


def _short(known: Mapping[str, Any]) -> dict[str, Any]:
    """Without the facts that are data of their own, such as texts for a page, or have a section of their own."""
    return {name: value for name, value in known.items() if len(str(value)) <= _CELL and name != "driving"}


def _policy(scripts: Sequence[str]) -> Markup:
    """What the page may load and run: its own style and pictures, and these scripts by their hashes; nothing else."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    run = f"; script-src {allowed}" if hashes else ""
    return Markup(f"default-src 'none'; style-src 'unsafe-inline'; img-src data:{run}")


def _cell(value: Any) -> tuple[str, bool]:
    """A cell's words, and whether it is a number."""
    if isinstance(value, bool):
        return ("yes" if value else "no"), False
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()
    if isinstance(value, int | float):
        return (str(value) if isinstance(value, int) else numbers.significant(value)), True
    if value is None:
        return "", False
    if isinstance(value, bytes):
        return f"{len(value)} bytes", False
    if not isinstance(value, str) and hasattr(value, "__iter__"):
        value = ", ".join(_cell(one)[0] for one in value)
    text = str(value)
    return (text if len(text) <= _CELL else text[: _CELL - 1] + "…"), False
