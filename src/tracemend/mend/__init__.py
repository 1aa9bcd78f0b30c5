"""Repair: the loop that finds wrong labels, acts on them, tunes again and judges what came of it.

Decisions go to a ledger and can be undone; the repaired set is exported beside the original.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracemend.mend.export import apply, export, undo
    from tracemend.mend.job import repair
    from tracemend.mend.ledger import Decision, Ledger
    from tracemend.mend.repair import Repair
    from tracemend.mend.result import RepairResult, load_result
    from tracemend.mend.verdict import Verdict, verdict

__all__ = [
    "Decision",
    "Ledger",
    "Repair",
    "RepairResult",
    "Verdict",
    "apply",
    "export",
    "load_result",
    "repair",
    "undo",
    "verdict",
]

# Where each name lives: resolved on first use, so that whoever reads a ledger does not wait for torch.
_FILES = {
    "Decision": "ledger",
    "Ledger": "ledger",
    "Repair": "repair",
    "RepairResult": "result",
    "Verdict": "verdict",
    "apply": "export",
    "export": "export",
    "load_result": "result",
    "repair": "job",
    "undo": "export",
    "verdict": "verdict",
}


class _Room(ModuleType):
    """The package, in which a function keeps its name from the file of the same name."""

    def __getattr__(self, name: str) -> Any:
        if name not in _FILES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        # What the import system does with a file that was imported.
        if not (name in _FILES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Room
