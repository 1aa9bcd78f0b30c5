"""Repair: the loop that finds wrong labels, acts on them, tunes again and judges what came of it.

Decisions go to a ledger and can be undone; the repaired set is exported beside the original.
"""

from tracemend.mend.export import apply, export, undo
from tracemend.mend.job import repair
from tracemend.mend.ledger import Decision, Ledger
from tracemend.mend.repair import Repair
from tracemend.mend.result import RepairResult, load_result
from tracemend.mend.review import Reviewed, export_suspects, review
from tracemend.mend.verdict import Verdict, verdict

__all__ = [
    "Decision",
    "Ledger",
    "Repair",
    "RepairResult",
    "Reviewed",
    "Verdict",
    "apply",
    "export",
    "export_suspects",
    "load_result",
    "repair",
    "review",
    "undo",
    "verdict",
]
