"""Exact per-example gradients of the adapter and the head, one way of getting them a file.

``per_example_gradients`` chooses by the adapter, and checks a sample against the batch-1 reference.
"""

from tracemend.trace.gradients.collect import Gradients, gradient_batches, per_example_gradients
from tracemend.trace.gradients.layout import Block, Layout
from tracemend.trace.gradients.projection import Projection

__all__ = ["Block", "Gradients", "Layout", "Projection", "gradient_batches", "per_example_gradients"]
