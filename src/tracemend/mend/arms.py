"""What a mended classifier is shown beside: figures of one arm with the marks or the weights, and of its controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from tracemend.methods import MethodResult
from tracemend.tuning.tune import Tuned


@dataclass(frozen=True, kw_only=True)
class MendResult(MethodResult):
    """Figures of a mended classifier and of the same tuning in its control arms.

    Attributes:
        findings: sentences for a person: what was marked, how much of it the data hold.
        tuned: the mended classifier; None where the result was read from disk.
    """

    tuned: Tuned | None = field(default=None, compare=False, repr=False)

    def arms(self) -> pd.DataFrame:
        """One row a figure, one column an arm, the mended one first."""
        every: Mapping[str, Mapping[str, Any]] = {"mended": self.metrics, **self.controls}
        return pd.DataFrame({arm: pd.Series(dict(of), dtype=float) for arm, of in every.items()}).loc[
            list(self.metrics)
        ]
