"""One worker process of the proof: ``python -m tracemend.mend.proof.worker PART ROWS OUT`` with a job on its input."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

from tracemend.evaluate.grid import read_job, run_cells


def main(part: str, rows: str, out: str) -> int:
    """Run the cells that standard input names; the exit status."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    cells, seconds = read_job(sys.stdin)
    import torch

    from tracemend.mend.proof.job import Proof, results_of

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        run_cells(cells, Proof(Path(out)), results_of(part, Path(rows), Path(out)), seconds=seconds)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
