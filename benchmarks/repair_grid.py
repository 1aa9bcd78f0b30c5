"""Detection by every detector and repair by every arm, on the reference sets: the tables of docs/results.md.

    python benchmarks/repair_grid.py --table                         # every table, from the stored rows alone
    python benchmarks/repair_grid.py --part detection --minutes 85   # what is missing, for 85 minutes; resumes
    python benchmarks/repair_grid.py --part repair --other NAME      # NAME: the best on the development sets

The same code and options as ``tracemend bench repair`` (``--help`` lists them). Rows of finished cells lie in
``benchmarks/results/repair_grid``, under version control; checkpoints, logs and errors in
``benchmarks/out/repair_grid``.
Settings may be chosen on uci_sentiment_sentences and hatecheck (``--sets``) only.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

HERE = Path(__file__).parent
ROWS, OUT = HERE / "results" / "repair_grid", HERE / "out" / "repair_grid"


def main(arguments: list[str]) -> None:
    """``tracemend bench repair`` with the folders of the published figures."""
    from tracemend.cli import app

    app(["bench", "repair", "--rows", str(ROWS), "--out", str(OUT), *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
