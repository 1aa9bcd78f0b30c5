"""Progress bars with time left, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from tracemend.progress import Progress

T = TypeVar("T")


class Bars(Progress):
    """Shows every loop as a bar while it runs, and the notes that a person wants to read as lines."""

    def __init__(self, rich: RichProgress) -> None:
        self.rich = rich
        self._said: set[str] = set()

    def track(self, items: Iterable[T], *, task: str, total: int | None = None) -> Iterator[T]:
        if total is None and isinstance(items, Sized):
            total = len(items)
        bar = self.rich.add_task(task, total=total)
        try:
            for item in items:
                yield item
                self.rich.advance(bar)
        finally:
            self.rich.remove_task(bar)

    def note(self, event: str, **facts: Any) -> None:
        if event not in _LINES:
            return
        line = _LINES[event](facts)
        # Every round tunes again and counts the cut texts again: once is enough.
        if event != "cut" or line not in self._said:
            self.rich.console.print(line, highlight=False, markup=False, style="dim", soft_wrap=True)
        self._said.add(line)


def _epoch(facts: Mapping[str, Any]) -> str:
    # Of an epoch at which nothing looked at validation there is no figure; of completions there is a loss.
    ap, loss = facts.get("validation_ap"), facts.get("validation_loss")
    shown = "" if ap is None else f", validation AP {ap:.3f}"
    shown += "" if loss is None else f", validation loss {loss:.3f}"
    return f"epoch {facts['epoch']}: loss {facts['loss']:.3f}{shown}"


def _round(facts: Mapping[str, Any]) -> str:
    ap = facts.get("ap")
    shown = "" if ap is None else f", validation AP {ap:.3f}"
    return f"{facts['arm']}, round {facts['round']}: {facts['acted']} acted on{shown}"


def _arm(facts: Mapping[str, Any]) -> str:
    # One number for all rounds, or one for each.
    counts = facts["candidates"] if isinstance(facts["candidates"], Sequence) else [facts["candidates"]]
    if facts["arm"] == "unchanged":
        return f"unchanged: as many rounds of tuning, no label changed ({len(counts)} at most)"
    if not counts:
        return f"{facts['arm']}: no round"
    if len(set(counts)) == 1:
        return f"{facts['arm']}: up to {counts[0]} {'example' if counts[0] == 1 else 'examples'} a round"
    return f"{facts['arm']}: up to {', '.join(map(str, counts))} examples in its rounds"


def _dropped(facts: Mapping[str, Any]) -> str:
    return f"dropped {facts['rows']} {'row' if facts['rows'] == 1 else 'rows'} without text ({facts['where']})"


def _cell(facts: Mapping[str, Any]) -> str:
    failed = f" failed: {facts['error']}" if "error" in facts else " done"
    return f"{facts['unit']} {facts['arm']}{failed}; {facts['left']} left, about {facts['minutes_left']:g} minutes"


_LINES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "cut": lambda f: f"{f['texts']} training texts are cut to {f['tokens']} tokens",
    "dropped empty texts": _dropped,
    "epoch": _epoch,
    "arm": _arm,
    "round": _round,
    "cell": _cell,
    "cell failed": _cell,
}


@contextmanager
def shown(quiet: bool) -> Iterator[Progress]:
    """Bars on standard error inside the block; silence where ``quiet``."""
    if quiet:
        yield Progress()
        return
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with RichProgress(*columns, console=console, transient=True, disable=not console.is_terminal) as rich:
        yield Bars(rich)
