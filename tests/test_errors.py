"""Errors carry the remedy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend import errors
from tracemend.errors import TracemendError, did_you_mean

NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5, unique=True)


def test_names_the_valid_values_and_the_nearest() -> None:
    assert did_you_mean("Unsafee", ["Safe", "Unsafe"]) == "not one of: Safe, Unsafe; did you mean 'Unsafe'?"


def test_does_not_guess_where_nothing_is_near() -> None:
    assert did_you_mean("banana", ["0", "1"]) == "not one of: 0, 1"


@given(NAMES)
def test_every_valid_value_is_named_and_an_exact_one_is_the_guess(names: list[str]) -> None:
    message = did_you_mean(names[0], names)
    assert all(name in message for name in names)
    assert message.endswith(f"did you mean {names[0]!r}?")


@pytest.mark.parametrize("name", ["DataError", "ModelError", "TuningError", "TraceError", "RunError"])
def test_every_error_is_a_tracemend_error(name: str) -> None:
    assert issubclass(getattr(errors, name), TracemendError)
