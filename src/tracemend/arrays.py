"""What arrays hold, by the names that annotations use; their shapes stand in docstrings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Masks = npt.NDArray[np.bool_]
