"""What tuning does to influence: detection AP of TracIn and of G-BAIR's votes under each kind of adapter.

    python benchmarks/influence_by_adapter.py            # what is missing, then the table; resumes
    python benchmarks/influence_by_adapter.py --table    # from the stored figures alone

The draws of ``benchmarks/repair_grid.py`` at 30 % symmetric flips: minilm, 500 training and 300 clean validation
examples, 8 epochs, gradients of the last state. Under full tuning every matrix is projected to 64 numbers of its long
side, since whole gradients take 45 GB; LoRA with the same projection stands beside it and shows what that costs.
Controls: a random order has the share of wrong labels, and test AP says what the classifier itself is worth.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracemend.trace.candidates import Drivers

os.environ.setdefault("HF_HUB_OFFLINE", "1")

KEPT = Path(__file__).parent / "results" / "influence_by_adapter"
PROJECT = 64
# Kind of adapter, and whether its gradients are projected.
ADAPTERS = (("prompt", None), ("lora", None), ("lora", PROJECT), ("head", None), ("full", PROJECT))
DRIVERS: tuple[Drivers, ...] = ("misclassified", "residual", "all")


def main() -> None:
    """Run what is missing and print the table."""
    from tracemend.mend.proof import JUDGED
    from tracemend.runs import write_json

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if not given.table:
        for seed in range(given.seeds):
            for kind, project in ADAPTERS:
                for name in JUDGED:
                    path = KEPT / f"{name}-{_named(kind, project)}-{seed}.json"
                    if not path.exists():
                        began = time.monotonic()
                        write_json(path, measured(name, kind, project, seed))
                        print(f"{path.stem} {time.monotonic() - began:.0f} s", flush=True)
    print(table())


def _named(kind: str, project: int | None) -> str:
    return kind if project is None else f"{kind}-{project}"


def measured(name: str, kind: Any, project: int | None, seed: int) -> dict[str, float]:
    """Detection AP of TracIn and of the votes by each choice of drivers, and the classifier's own test AP."""
    import numpy as np

    from tracemend.evaluate import detection, scores
    from tracemend.evaluate.grid import Unit
    from tracemend.mend.proof.sets import draw
    from tracemend.models import load
    from tracemend.trace import TracIn
    from tracemend.trace.candidates import candidates, driver_weights
    from tracemend.tuning import Tuning, tune

    splits = draw(Unit(dataset=name, noise="symmetric", rate=0.3, seed=seed))
    train, validation, test = splits.train, splits.validation, splits.verdict
    tuning = Tuning(adapter=kind, epochs=8, patience=0, max_length=64, seed=seed)
    tuned = tune(load("minilm"), train, validation, tuning)
    p = tuned.classifier.probabilities(test.pairs)
    found = {"test": scores(test.y, p, test.positive_index)["ap"], "chance": float(train.wrong.mean())}

    def influence(parts: tuple[str, ...]) -> Any:
        tracin = TracIn(parts=parts, project=project, precision="bf16")
        return tracin.influence(tuned.classifier, train, validation)

    whole = influence(())
    ranked = candidates(whole.scores, rule="mean")
    found["tracin"] = detection(ranked.harm, train.wrong).ap
    # As reconstructed, G-BAIR looks at the prompt alone where there is one.
    voting = influence(("prompt",)) if kind == "prompt" else whole
    for drivers in DRIVERS:
        weights = driver_weights(voting.query_logits, validation.y, drivers)
        if weights.any():  # else nothing is misclassified: there is no vote, and no figure
            order = candidates(voting.scores, weights=weights, top=20).order
            found[f"votes {drivers}"] = detection(-np.argsort(order), train.wrong).ap
    return found


def table() -> str:
    """Means over sets and seeds; a row an adapter."""
    import numpy as np

    from tracemend.runs import read_json

    columns = ["tracin", *(f"votes {drivers}" for drivers in DRIVERS), "chance", "test"]
    lines = ["| adapter | draws | " + " | ".join(columns) + " |", "| --- | ---: |" + " ---: |" * len(columns)]
    for kind, project in ADAPTERS:
        paths = sorted(KEPT.glob(f"*-{_named(kind, project)}-[0-9].json"))
        rows = [read_json(path) for path in paths]
        if rows:
            cells = [f"{np.mean([row[c] for row in rows if c in row]):.3f}" for c in columns]
            lines.append(f"| {_named(kind, project)} | {len(rows)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
