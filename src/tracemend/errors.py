"""Every error a user can cause: what was found, what was expected, and the remedy."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from difflib import get_close_matches


class TracemendError(Exception):
    """Base of all errors with a remedy. The command line prints the message alone and exits 2."""


class DataError(TracemendError):
    """The labelled texts cannot be used as given."""


class MissingColumnError(DataError):
    """A table lacks a column that was named.

    Attributes:
        source: the table as the user called it.
        role: what the column was to hold: ``text``, ``label``, ...
        found: the message without its remedy.
        instead: a column that may be meant.
    """

    def __init__(self, source: str, role: str, column: str, present: Iterable[str], free: Iterable[str]) -> None:
        names = [str(name) for name in present]
        near = get_close_matches(column, names, n=1)
        self.source, self.role = source, role
        self.found = f"{source} has no column {column!r}; it has {', '.join(names)}"
        self.found += f" (did you mean {near[0]!r}?)." if near else "."
        left = [name for name in [*map(str, free), *names] if not name.startswith("Unnamed:")]  # pandas' for no name
        alike = [name for name in left if role.casefold() in name.casefold() or column.casefold() in name.casefold()]
        self.instead = next(iter([*near, *alike, *left]), "COLUMN")
        super().__init__(self.named_by(f"--{role}"))

    def named_by(self, option: str) -> str:
        """The message with its remedy, where this option names the column."""
        return f"{self.found} Name the column that holds the {self.role}, such as {option} {shlex.quote(self.instead)}."


class ModelError(TracemendError):
    """The model cannot be loaded, or cannot do what was asked."""


class TuningError(TracemendError):
    """The tuning cannot be done as configured."""


class TraceError(TracemendError):
    """Gradients or influence scores cannot be computed or trusted."""


class NoSignalError(TraceError):
    """The labels say too little of what is right: a repair of them is refused, and they stay as they are."""


class ProbeError(TracemendError):
    """A probe cannot be trained, or its figure would mean nothing."""


class NeuronError(TracemendError):
    """Units cannot be ranked or ablated as configured, or the figure would mean nothing."""


class ConceptError(TracemendError):
    """A concept or an explanation in words cannot be tested as given, or the figure would mean nothing."""


class CircuitError(TracemendError):
    """A mechanism cannot be measured as configured, or the model does not do what was to be explained."""


class RunError(TracemendError):
    """A run directory cannot be used: other config, other data, damaged, or not writable."""


def did_you_mean(found: str, valid: Iterable[str]) -> str:
    """Name the valid values, and the nearest one where there is one.

    Example:
        >>> did_you_mean("Unsafee", ["Safe", "Unsafe"])
        "not one of: Safe, Unsafe; did you mean 'Unsafe'?"
    """
    valid = [str(v) for v in valid]
    near = get_close_matches(str(found), valid, n=1)
    return f"not one of: {', '.join(valid)}" + (f"; did you mean {near[0]!r}?" if near else "")
