"""Planted circuits of neurons: are they found, and how do the neurons combine?

python -m benchmarks.units
python -m benchmarks.units features     features of autoencoders in the place of neurons

Three kinds of combination, three draws of weights and texts each; half a minute on one core. Features: an AND, two.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tracemend.circuits import FeatureEdges, FeatureTexts, Units
from tracemend.circuits.planted import planted, planted_features

SEEDS = (0, 1, 2)


def main() -> None:
    """Measure and print."""
    began = time.process_time()
    if "features" in sys.argv[1:]:
        features()
        return
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


def features() -> None:
    """Both ends of the two planted directions, and what random features do."""
    for seed in SEEDS[:2]:
        model, texts, _ = planted("and", seed=seed)
        data = FeatureTexts.of(texts, *planted_features(model))
        found = FeatureEdges(edges=4, combined=2, draws=3).run(model, data)
        print(f"{seed}: {found.table()['feature'].tolist()}, best {found.pairs['best'].iloc[0]}")
        for name, value in found.metrics.items():
            beside = {arm: round(of[name], 3) for arm, of in found.controls.items() if name in of}
            print(f"  {name:<8} {value:.3f}  {beside}")


if __name__ == "__main__":
    main()
