"""Suspects out to people who review elsewhere, and their answers back: Argilla, Label Studio, a table.

Examples keep their uid on the way; no server is called, files are all that passes.
"""

from __future__ import annotations

from tracemend.data.exchange.answers import REMOVE, Answer, Rule, Settled, settle
from tracemend.data.exchange.files import TARGETS, Target, files_of, read_answers, write_suspects
from tracemend.data.exchange.suspects import Suspects

__all__ = [
    "REMOVE",
    "TARGETS",
    "Answer",
    "Rule",
    "Settled",
    "Suspects",
    "Target",
    "files_of",
    "read_answers",
    "settle",
    "write_suspects",
]
