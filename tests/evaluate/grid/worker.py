"""A worker of the tests: what it does to a cell stands in the cell's arm."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pandas as pd

from tracemend.evaluate.grid import Cell, Results, read_job, run_cells


def work(cell: Cell) -> pd.DataFrame:
    if cell.arm == "raises":
        raise ValueError(f"no {cell.dataset}")
    if cell.arm == "dies":
        print("out of luck", file=sys.stderr, flush=True)
        os._exit(7)
    if cell.arm == "slow":
        time.sleep(60)
    return pd.DataFrame({"ap": [0.1 * cell.seed], "threads": [os.environ.get("OMP_NUM_THREADS")]})


def main() -> None:
    folder = Path(sys.argv[1])
    if sys.argv[2:] == ["broken"]:
        sys.exit("this worker cannot start")
    cells, seconds = read_job(sys.stdin)
    run_cells(cells, work, Results(folder / "rows", folder / "failed"), seconds=seconds)


if __name__ == "__main__":
    main()
