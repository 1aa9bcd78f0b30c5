"""Threads of linear algebra: one for fits whose steps are too small to share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from typing import Any

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[Any]:
    """Inside the block NumPy's and SciPy's BLAS compute on one thread; torch computes as before.

    A logistic regression on a few thousand rows takes thousands of tiny steps, at each of which several threads wait
    for each other: on two idle cores twice to seven times as long, beside other work twenty times.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> with one_thread():
        ...     fitted = LogisticRegression().fit([[0.0], [1.0]], ["a", "b"])
        >>> fitted.predict([[2.0]])
        array(['b'], dtype='<U1')
    """
    found: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return found


@cache
def _libraries() -> ThreadpoolController:
    import_module("scipy.linalg")  # its BLAS is another than NumPy's, and must be loaded to be found
    return ThreadpoolController()
