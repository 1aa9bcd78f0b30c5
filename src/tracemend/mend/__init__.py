"""Repair: the loop that finds wrong labels, acts on them, tunes again and judges what came of it.

Decisions go to a ledger and can be undone; the repaired set is exported beside the original.
"""

from tracemend.mend.bounds import NoiseRate, fdr_prefix, noise_rate
from tracemend.mend.cross import by_group, cross_posterior, trusted_posterior
from tracemend.mend.export import apply, export, undo
from tracemend.mend.gain import Gains, by_gain
from tracemend.mend.job import repair
from tracemend.mend.ledger import Decision, Ledger
from tracemend.mend.repair import Repair
from tracemend.mend.result import RepairResult, load_result
from tracemend.mend.review import Reviewed, export_suspects, review
from tracemend.mend.verdict import Verdict, verdict

__all__ = [
    "Decision",
    "Gains",
    "Ledger",
    "NoiseRate",
    "Repair",
    "RepairResult",
    "Reviewed",
    "Verdict",
    "apply",
    "by_gain",
    "by_group",
    "cross_posterior",
    "export",
    "export_suspects",
    "fdr_prefix",
    "load_result",
    "noise_rate",
    "repair",
    "review",
    "trusted_posterior",
    "undo",
    "verdict",
]
