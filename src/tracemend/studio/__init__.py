"""The studio: a run in the browser, from an error to the labels behind it, to a decision, to a better model.

A local server without torch; what computes runs in a process of its own.
"""

from tracemend.studio.decisions import Conflict, Review
from tracemend.studio.session import Session
from tracemend.studio.versions import Version, versions

__all__ = ["Conflict", "Review", "Session", "Version", "versions"]
