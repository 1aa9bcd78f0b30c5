"""Every error a user can cause: what was found, what was expected, and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class TracemendError(Exception):
    """Base of all errors with a remedy. The command line prints the message alone and exits 2."""


class DataError(TracemendError):
    """The labelled texts cannot be used as given."""


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
