"""Peak memory of a whole repair on 1,000 training examples (limit: 2 GB); sst2 sentences, minilm.

python benchmarks/memory.py
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")


def main() -> None:
    """Run one repair and print the peak of the resident set."""
    from tracemend.data import corrupt, make_splits, reference
    from tracemend.data.splits import sample
    from tracemend.mend import Repair
    from tracemend.models import load
    from tracemend.tuning import Tuning

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", default="lora")
    given = parser.parse_args()
    parts = make_splits(sample(reference("sst2"), 2000), validation_share=0.3, test_share=0.2)
    splits = replace(parts, train=corrupt(parts.train, rate=0.3))
    tuning = Tuning(adapter=given.adapter, epochs=2, patience=0, max_length=64)
    with tempfile.TemporaryDirectory() as folder:
        result = Repair(tuning=tuning, rounds=1, warm_epochs=1).run(load("minilm"), splits, out=Path(folder) / "run")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(splits.train)} training examples, {given.adapter}: peak resident set {peak:.2f} GiB")
    print(f"recovered share {result.metrics['recovered_share']:.2f}, seconds {result.metrics['seconds']:.0f}")


if __name__ == "__main__":
    main()
