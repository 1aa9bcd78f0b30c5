"""What every probe gives back: figures, controls, and in words what they show."""

from __future__ import annotations

from dataclasses import dataclass

from tracemend.methods import MethodResult

# Two figures are alike where the whole interval of their difference lies within this of none.
_ALIKE = 0.05


@dataclass(frozen=True, kw_only=True)
class ProbeResult(MethodResult):
    """What a probe found."""


def compared(what: str, control: str, difference: float, low: float, high: float) -> str:
    """Say whether a result beats its control; that the control does as well only where the interval is narrow.

    Example:
        >>> compared("layer 2", "random weights", 0.2, 0.15, 0.25)
        'layer 2 beats random weights by 0.200 (0.150 to 0.250).'
    """
    interval = f"{difference:+.3f} ({low:+.3f} to {high:+.3f})"
    if low > 0:
        return f"{what} beats {control} by {difference:.3f} ({low:.3f} to {high:.3f})."
    if high < 0:
        return f"{what} is worse than {control}: {interval}. The figure shows nothing that {control} lacks."
    same = f"{control} does as well" if low >= -_ALIKE and high <= _ALIKE else "these data do not tell them apart"
    return f"{what} is not shown to be better than {control}: {interval}; {same}."
