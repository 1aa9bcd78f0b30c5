"""What every method on concepts gives back: figures, controls, and in words what they show."""

from __future__ import annotations

from dataclasses import dataclass

from tracemend.methods import MethodResult


@dataclass(frozen=True, kw_only=True)
class ConceptsResult(MethodResult):
    """What was found about concepts."""
