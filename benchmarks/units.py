"""Planted circuits of neurons: are they found, and how do the neurons combine?

python -m benchmarks.units

Three kinds of combination, three draws of weights and texts each; half a minute on one core.
"""

from __future__ import annotations

import os
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tracemend.circuits import Units
from tracemend.circuits.planted import planted

SEEDS = (0, 1, 2)


def main() -> None:
    """Measure and print."""
    began = time.process_time()
    for kind in ("linear", "and", "or"):
        for seed in SEEDS:
            model, texts, truth = planted(kind, seed=seed)
            found = Units(neuron=truth["target"][1], edges=2, combined=2).run(model, texts)
            said = {(row.layer, row.neuron) for row in found.table().itertuples()}
            m, random = found.metrics, found.controls["random units"]
            print(f"{kind} {seed}: found {said == set(truth['sources'])}, best {found.pairs['best'].tolist()[0]}")
            for name in ("share", "lost", "alone", "linear", "and", "or"):
                print(f"  {name:<8} {m[name]:.3f}  random {random[name]:.3f}")
    print(f"processor seconds {time.process_time() - began:.0f}")


if __name__ == "__main__":
    main()
