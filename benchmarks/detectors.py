"""How well every registered detector finds flipped labels, on the two development sets.

    python benchmarks/detectors.py                          # both sets, one seed; resumes what is there
    python benchmarks/detectors.py --sets hatecheck --seeds 3 --adapter prompt
    python benchmarks/detectors.py --table                  # only print what is finished
    python benchmarks/detectors.py --noisy-validation       # those that need no trusted label, where there is none

Each (set, seed) draws 300 training and 150 clean validation examples, flips 30 % of the training labels, tunes once and
shows the same classifier to all detectors. The sets are those that settings may be chosen on; published comparisons are
made on others. With ``--noisy-validation`` the validation labels carry the same flips. Rows lie in
``benchmarks/out/detectors``, one JSON file a set, seed, adapter and detector.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracemend.data import Labelled, Splits

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

OUT = Path(__file__).parent / "out" / "detectors"
TRAIN, VALIDATION, RATE = 300, 150, 0.3


# Settings of a detector beside its defaults, by what the table calls them.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "trace.tracin (renormalised)": ("trace.tracin", {"kernel": "renormalised"}),
    "trace.tracin (dot)": ("trace.tracin", {"kernel": "dot"}),
    "trace.outlier-gradients (l1)": ("trace.outlier-gradients", {"rule": "l1"}),
    "trace.outlier-gradients (l2)": ("trace.outlier-gradients", {"rule": "l2"}),
    # What each part of the consensus adds: four layers to the one of trace.em, then what is tuned.
    "trace.trusted-model (four layers)": ("trace.trusted-model", {"layers": 4}),
    "trace.em (four layers)": ("trace.em", {"layers": 4}),
}
SETS = ("uci_sentiment_sentences", "hatecheck")


def parts(whole: Labelled, seed: int, noisy: bool) -> Splits:
    """Training and validation examples; 30 % of the training labels flipped, and of the others where ``noisy``."""
    from dataclasses import replace

    from tracemend.data import corrupt, make_splits
    from tracemend.data.splits import sample

    made = make_splits(whole, seed=seed, validation_share=0.3, test_share=0.0)
    train = corrupt(sample(made.train, TRAIN, seed=seed), kind="symmetric", rate=RATE, seed=seed)
    validation = sample(made.validation, VALIDATION, seed=seed)
    if noisy:
        flipped = corrupt(validation, kind="symmetric", rate=RATE, seed=seed + 1)
        validation = replace(flipped, frame=flipped.frame.assign(truth=None))
    return replace(made, train=train, validation=validation)


def unit(name: str, seed: int, adapter: Any, model: str, epochs: int, noisy: bool) -> None:
    """One (set, seed): what is finished is kept, the rest is run on one tuning."""
    from tracemend.data import reference
    from tracemend.models import load
    from tracemend.runs import write_json
    from tracemend.trace.detectors import Subject
    from tracemend.trace.run import detectors
    from tracemend.tuning import Tuning, tune

    known = {**{kind: (kind, dict[str, Any]()) for kind in detectors()}, **VARIANTS}
    if noisy:
        known = {k: one for k, one in known.items() if "validation" not in detectors()[one[0]].capabilities}
    stem = f"{name}-{seed}-{model}-{adapter}-{epochs}{'-noisy' if noisy else ''}"
    files = {kind: OUT / f"{stem}-{re.sub('[^a-z0-9]+', '-', kind).strip('-')}.json" for kind in known}
    missing = {kind: file for kind, file in files.items() if not file.exists()}
    if not missing:
        return
    splits = parts(reference(name), seed, noisy)
    tuning = Tuning(adapter=adapter, epochs=epochs, patience=0, max_length=64, seed=seed)
    tuned = tune(load(model), splits.train, splits.validation, tuning)
    subject = Subject(tuned.classifier, tuned.until_best(), splits, trusted=not noisy)
    if not noisy:
        subject.wrong()  # what all share is not charged to the first
    subject.logits()
    for kind, file in missing.items():
        began = time.monotonic()
        method, changes = known[kind]
        found = detectors()[method](seed=seed, **changes).run(subject, splits)
        row = {"set": name, "seed": seed, "detector": kind, "adapter": adapter, "model": model, "epochs": epochs}
        row |= {"metrics": found.metrics, "controls": found.controls, "seconds": time.monotonic() - began}
        row |= {"mean_probability": float(found.table()["probability"].mean()), "n": len(splits.train)}
        row |= {"checkpoints": len(subject.checkpoints), "noisy": noisy}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, row)
        print(f"{name} {seed} {kind}: AP {found.metrics['detection_ap']:.3f}", flush=True)


def table(sets: list[str], adapter: str, model: str, epochs: int, noisy: bool) -> str:
    """Mean over the seeds of each detector, best first; the control is a random order."""
    import pandas as pd

    rows = [json.loads(file.read_text("utf-8")) for file in sorted(OUT.glob("*.json"))]
    rows = [
        row
        for row in rows
        if (row["adapter"], row["model"], row["epochs"], row.get("noisy", False)) == (adapter, model, epochs, noisy)
        and row["set"] in sets
    ]
    sets = [name for name in sets if any(row["set"] == name for row in rows)]
    if not rows:
        return "nothing is finished yet"
    frame = pd.DataFrame(
        {
            "set": [row["set"] for row in rows],
            "detector": [row["detector"] for row in rows],
            **{
                figure: [row["metrics"].get(figure) for row in rows]
                for figure in ("detection_ap", "detection_auroc", "brier")
            },
        }
    )
    figures = ["detection_ap", "detection_auroc"] + ([] if noisy else ["brier"])
    wide = frame.pivot_table(index="detector", columns="set", values=figures)
    order = pd.DataFrame(wide["detection_ap"]).mean(axis=1).sort_values(ascending=False, kind="stable").index
    head = ["detector", *(f"{name} AP (AUROC){'' if noisy else ', Brier'}" for name in sets)]
    lines = [head, ["---"] * len(head)]
    for detector in order:
        cells = [
            f"{wide.loc[detector, ('detection_ap', name)]:.3f} ({wide.loc[detector, ('detection_auroc', name)]:.3f})"
            + ("" if noisy else f", {wide.loc[detector, ('brier', name)]:.3f}")
            for name in sets
        ]
        lines.append([f"`{detector}`", *cells])
    control = rows[0]["controls"]
    chance = f"{control['detection_ap']:.3f} ({control['detection_auroc']:.3f})"
    chance += "" if noisy else f", {control['brier']:.3f}"
    lines.append(["control: a random order" + ("" if noisy else ", the true rate"), *[chance] * len(sets)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--adapter", default="lora")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--noisy-validation", action="store_true", help="no label can be trusted")
    parser.add_argument("--table", action="store_true", help="only print what is finished")
    given = parser.parse_args()
    if not given.table:
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        for name in given.sets:
            for seed in range(given.seeds):
                unit(name, seed, given.adapter, given.model, given.epochs, given.noisy_validation)
    print(table(given.sets, given.adapter, given.model, given.epochs, given.noisy_validation))


if __name__ == "__main__":
    main()
