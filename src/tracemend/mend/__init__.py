"""Repair: the loop that finds wrong labels, acts on them, tunes again and judges what came of it.

And the use of explanations: tuning on what people say of words.

Decisions go to a ledger and can be undone; the repaired set is exported beside the original.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracemend.mend.amplify import Amplify, AmplifyResult
    from tracemend.mend.bounds import NoiseRate, fdr_prefix, noise_rate
    from tracemend.mend.gain import Gains, by_gain
    from tracemend.mend.job import repair
    from tracemend.mend.judgement import Verdict, verdict
    from tracemend.mend.loop import Repair
    from tracemend.mend.regularise import Regularise, tune_on_decisions
    from tracemend.mend.repaired import apply, export, undo
    from tracemend.mend.result import RepairResult, load_result
    from tracemend.mend.reviewed import Reviewed, export_suspects, review
    from tracemend.mend.robustness import Robustness
    from tracemend.mend.shortcuts import Shortcuts
    from tracemend.mend.whole import export_file

__all__ = [
    "Amplify",
    "AmplifyResult",
    "Gains",
    "NoiseRate",
    "Regularise",
    "Repair",
    "RepairResult",
    "Reviewed",
    "Robustness",
    "Shortcuts",
    "Verdict",
    "apply",
    "by_gain",
    "export",
    "export_file",
    "export_suspects",
    "fdr_prefix",
    "load_result",
    "noise_rate",
    "repair",
    "review",
    "tune_on_decisions",
    "undo",
    "verdict",
]

# Where each name lives: resolved on first use, so that whoever undoes a decision does not wait for torch.
_FILES = {
    "Amplify": "amplify",
    "AmplifyResult": "amplify",
    "Gains": "gain",
    "NoiseRate": "bounds",
    "Regularise": "regularise",
    "Repair": "loop",
    "RepairResult": "result",
    "Reviewed": "reviewed",
    "Robustness": "robustness",
    "Shortcuts": "shortcuts",
    "Verdict": "judgement",
    "apply": "repaired",
    "by_gain": "gain",
    "export": "repaired",
    "export_file": "whole",
    "export_suspects": "reviewed",
    "fdr_prefix": "bounds",
    "load_result": "result",
    "noise_rate": "bounds",
    "repair": "job",
    "review": "reviewed",
    "tune_on_decisions": "regularise",
    "undo": "repaired",
    "verdict": "judgement",
}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
