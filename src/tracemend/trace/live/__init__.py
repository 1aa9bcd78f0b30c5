"""Tracing while training: the gradients of the very steps a ``Trainer`` takes, without another pass.

``TraceCallback`` writes them as shards, ``LiveTrace`` reads them and sums influence over the trajectory.
"""

from tracemend.trace.live.callback import TraceCallback
from tracemend.trace.live.trajectory import LiveTrace, query_gradients

__all__ = ["LiveTrace", "TraceCallback", "query_gradients"]
