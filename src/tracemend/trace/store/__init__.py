"""Gradients on disk: immutable safetensors shards, a table of rows and a manifest.

A shard is the unit of work, of resume and of distribution: it exists only if it is complete. Edited labels make a
child store, which holds the changed rows alone.
"""

from tracemend.trace.store.shards import Shard
from tracemend.trace.store.store import GradientStore
from tracemend.trace.store.verify import Fault, verify

__all__ = ["Fault", "GradientStore", "Shard", "verify"]
