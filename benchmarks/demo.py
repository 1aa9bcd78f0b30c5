"""`tracemend demo` over seeds: what the flips cost, what repair brings back, what its controls bring back.

    python benchmarks/demo.py --seeds 3

Runs lie in ``benchmarks/out/demo`` and resume.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

SHOWN = (
    "ap_clean",
    "ap_corrupted",
    "ap_repaired",
    "recovered_share",
    "random_recovered_share",
    "similarity_recovered_share",
    "acted_precision",
    "detection_ap",
    "seconds",
)


def main() -> None:
    """Run the demo once a seed and print one row each, then the means."""
    from tracemend.evaluate import recovered_share
    from tracemend.mend.job import demo_job

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "demo")
    given = parser.parse_args()
    rows = []
    print("| seed | " + " | ".join(SHOWN) + " |\n|" + "---|" * (len(SHOWN) + 1))
    for seed in range(given.seeds):
        result = demo_job(given.out / f"seed-{seed}", seed=seed)
        rows.append(result)
        print(f"| {seed} | " + " | ".join(f"{result.metrics[name]:.3f}" for name in SHOWN) + " |", flush=True)
    clean, corrupted, repaired = ([r.metrics[f"ap_{k}"] for r in rows] for k in ("clean", "corrupted", "repaired"))
    share = recovered_share(clean, corrupted, repaired)
    print(f"gap {share.gap:.3f} ({share.gap_low:.3f} to {share.gap_high:.3f})")
    print(
        f"recovered {share.share:.2f} ({share.low:.2f} to {share.high:.2f}){' ' + share.reason if share.reason else ''}"
    )
    for arm in rows[0].controls:
        again = recovered_share(clean, corrupted, [r.controls[arm]["ap_repaired"] for r in rows])
        print(f"{arm} recovered {again.share:.2f} ({again.low:.2f} to {again.high:.2f})")


if __name__ == "__main__":
    main()
