"""What the fields of a configuration may hold: one that holds something else is refused when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tracemend.errors import TracemendError, did_you_mean


def check_fields(config: Any, error: type[TracemendError], *, at_least: Mapping[str, int]) -> None:
    """Refuse a value that its field's ``Literal`` does not name, and a number below the least that makes sense.

    A misspelt choice would otherwise be taken for another one: whatever is not ``bf16`` computes in fp32.

    Args:
        config: an instance of a dataclass.
        error: raised with the name of the field and what it may hold.
        at_least: the lowest value of a field, or of each number in one that holds several; None is let pass.

    Example:
        >>> from tracemend.tuning import Tuning
        >>> Tuning(precision="bfloat16")
        Traceback (most recent call last):
            ...
        tracemend.errors.TuningError: precision 'bfloat16' is not one of: auto, bf16, fp32; did you mean 'bf16'?
    """
    for name, valid in _choices(type(config)).items():
        check_choice(name, getattr(config, name), valid, error)
    for name, lowest in at_least.items():
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        if any(not number >= lowest for number in numbers):
            raise error(f"{name} is {value}; it must be at least {lowest}.")


def check_choice(name: str, value: Any, valid: tuple[Any, ...], error: type[TracemendError]) -> None:
    """Refuse a value that is none of the valid ones."""
    if value not in valid:
        raise error(f"{name} {value!r} is {did_you_mean(str(value), valid)}")


def _choices(config: type) -> Mapping[str, tuple[Any, ...]]:
    hints = get_type_hints(config)
    return {f.name: get_args(hints[f.name]) for f in fields(config) if get_origin(hints[f.name]) is Literal}
