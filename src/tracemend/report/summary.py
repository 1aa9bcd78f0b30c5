"""The short form of a report: a table for the terminal and for notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd

from tracemend.report.key_figures import key_figures
from tracemend.report.run import RepairRun
from tracemend.report.verdict import Verdict, verdict

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True, eq=False)
class Summary:
    """Verdict, comparisons and key figures of a repair.

    ``rich.print`` shows it in a terminal, a notebook shows it as HTML.

    Example:
        >>> Summary(RepairRun.read("runs/chat")).comparisons()  # doctest: +SKIP
    """

    run: RepairRun

    def comparisons(self) -> pd.DataFrame:
        """One row a metric: before, after, difference, its interval and whether it is shown."""
        rows = [(r.name, r.before, r.after, r.difference, r.interval, _word(r.shown)) for r in verdict(self.run).rows]
        return pd.DataFrame(rows, columns=["figure", "before", "after", "difference", "interval", "shown"])

    def figures(self) -> pd.DataFrame:
        """One row a key figure, with what it is to be read against."""
        rows = [(f.name, f.value, "; ".join(f"{n} {v}" for n, v in f.beside)) for f in key_figures(self.run)]
        return pd.DataFrame(rows, columns=["figure", "value", "beside"])

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        found = verdict(self.run)
        parts: list[Any] = [Text(found.headline, style="bold"), Text(found.sentence)]
        if self.run.since:
            parts.append(Text(self.run.since_sentence))
        for frame, heading in ((self.comparisons(), _compared_on(found)), (self.figures(), "")):
            if frame.empty:
                continue
            parts += [Text(""), Text(heading)] if heading else []
            table = Table(box=None, header_style="dim", pad_edge=False)
            for column in frame.columns:
                table.add_column(Text(str(column)), justify="left")
            for row in frame.itertuples(index=False):
                table.add_row(*[Text(str(cell)) for cell in row])
            parts += [table] if heading else [Text(""), table]
        return Group(*parts)

    def _repr_html_(self) -> str:
        found = verdict(self.run)
        tables = [f.to_html(index=False, border=0) for f in (self.comparisons(), self.figures()) if not f.empty]
        if not self.comparisons().empty and (heading := _compared_on(found)):
            tables[0] = f"<p>{heading}</p>{tables[0]}"
        since = f"<p>{escape(self.run.since_sentence)}</p>" if self.run.since else ""
        return f"<p><strong>{escape(found.headline)}.</strong> {escape(found.sentence)}</p>{since}" + "".join(tables)


def _compared_on(found: Verdict) -> str:
    """Which examples the first table is of; the second says it of its own figures."""
    return "" if found.n is None else f"On the verdict part, {found.n} examples that took no part in the repair:"


def _word(shown: bool) -> str:
    return "shown" if shown else "not shown"
