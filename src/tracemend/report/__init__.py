"""What a finished repair looks like: a self-contained page, a table, the curve over rounds, coloured words and units.

The page reads a run directory and nothing else, so it can be written again at any time.
"""

from __future__ import annotations

from tracemend.evaluate import curve_figure
from tracemend.report.curve import curve_svg
from tracemend.report.page import write_report
from tracemend.report.run import RepairRun
from tracemend.report.summary import Summary
from tracemend.report.units import write_units
from tracemend.report.words import write_words

__all__ = ["RepairRun", "Summary", "curve_figure", "curve_svg", "write_report", "write_units", "write_words"]
