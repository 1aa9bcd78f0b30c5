"""A store of 100,000 rows, built and queried once: seconds, bytes, memory.

    python benchmarks/large.py                     # builds, goes on where it stopped, then queries
    python benchmarks/large.py --processes 2       # that many processes share the work

Pairs of e-SNLI's premises, hypotheses and explanations with the label of their item, the shortest ones. minilm with
LoRA of rank 8, tuned on 600 of them for one epoch; one checkpoint; passes in bfloat16; of each matrix's long side 32
numbers are kept by a seeded projection. Queries are 100 pairs that were not traced. Seconds of interrupted builds add
up. The figures lie in ``benchmarks/results/large.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracemend.data import Labelled

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

OUT = HERE / "out" / "large"
KEPT = HERE / "results" / "large.json"
QUERIES = 100


def main() -> None:
    """Build what is missing, then query."""
    given = _arguments()
    if given.child:
        build(given)
        return
    log = given.out / "builds.jsonl"
    given.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    threads = str(max(1, (os.cpu_count() or 1) // given.processes))
    children = [
        subprocess.Popen(
            [sys.executable, *sys.argv, "--child"],
            env={**os.environ, "RANK": str(i), "WORLD_SIZE": str(given.processes), "OMP_NUM_THREADS": threads},
        )
        for i in range(given.processes)
    ]
    try:
        codes = [child.wait() for child in children]
    finally:
        for child in children:
            child.terminate()
        with log.open("a") as file:
            file.write(json.dumps({"seconds": time.monotonic() - began, "processes": given.processes}) + "\n")
    if any(codes):
        raise SystemExit(f"a process ended with code {max(codes)}; the same command goes on.")
    builds = [json.loads(line) for line in log.read_text().splitlines()]
    found = {"rows": given.rows, "builds": len(builds), "processes": given.processes}
    found["build_seconds"] = round(sum(one["seconds"] for one in builds))
    found |= query(given)
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    KEPT.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def build(given: argparse.Namespace) -> Any:
    """The store, or what it lacks."""
    from tracemend.progress import EventLog
    from tracemend.trace.store import GradientStore

    train, _ = parts(given)
    classifier, checkpoints = tuned(given)
    progress = EventLog(given.out / f"events-{os.environ.get('RANK', '0')}.jsonl")
    return GradientStore.build(
        given.out / "store",
        classifier,
        train,
        checkpoints,
        batch_size=32,
        precision="bf16",
        project=32,
        progress=progress,
    )


def query(given: argparse.Namespace) -> dict[str, Any]:
    """Score every row for the queries, by TracIn from the store."""
    from tracemend.trace.scoring import TracedQueries, score
    from tracemend.trace.store import GradientStore

    _, asked = parts(given)
    classifier, checkpoints = tuned(given)
    store = GradientStore.open(given.out / "store")
    queries = TracedQueries(classifier, asked, checkpoints, batch_size=32, precision="bf16")
    before, began = _status("VmHWM"), time.monotonic()
    found = score(store, queries, top=20)
    seconds = time.monotonic() - began
    top = found.bottom(0, 1)
    summary = store.summary()
    return {
        "mean_tokens": round(float(store.rows["length"].mean()), 1),
        "width": store.width,
        "shards": summary["shards"],
        "gigabytes": round(summary["bytes"] / 1e9, 2),
        "queries": len(asked),
        "query_seconds": round(seconds, 1),
        "peak_mb_before": round(before),
        "peak_mb_after": round(_status("VmHWM")),
        "first_opponent_score": float(top["score"].iloc[0]),
    }


def tuned(given: argparse.Namespace) -> Any:
    """The classifier and its checkpoint, tuned once and read again afterwards."""
    from tracemend.models import load
    from tracemend.tuning import Tuning, tune

    train, asked = parts(given)
    tuning = Tuning(adapter="lora", epochs=1, max_length=64, patience=0, seed=0)
    found = tune(load("minilm"), train.take(range(600)), asked, tuning, out=given.out / "tuning")
    return found.classifier, found.checkpoints[-1:]


def parts(given: argparse.Namespace) -> tuple[Labelled, Labelled]:
    """The rows that are traced, and the queries."""
    import numpy as np
    import pandas as pd

    from tracemend.data import Labelled

    files = [given.data / "esnli_text" / f"{name}.tsv" for name in ("dev", "test")]
    if not all(file.exists() for file in files):
        raise SystemExit(f"{given.data} holds no esnli_text; name the reference data with --data.")
    items = pd.concat([pd.read_csv(file, sep="\t", quoting=3, keep_default_na=False) for file in files])
    columns = ("premise", "hypothesis", "explanation_1")
    ways = [
        items[[a, b, "label"]].set_axis(["text", "reply", "label"], axis=1) for a in columns for b in columns if a != b
    ]
    pairs = pd.concat(ways).drop_duplicates(["text", "reply"])
    pairs = pairs[(pairs["text"] != "") & (pairs["reply"] != "")]
    wanted = given.rows + QUERIES
    if len(pairs) < wanted:
        raise SystemExit(f"there are {len(pairs)} pairs; ask for {len(pairs) - QUERIES} rows at most.")
    shortest = pairs.iloc[np.argsort(pairs["text"].str.len() + pairs["reply"].str.len(), kind="stable")[:wanted]]
    drawn = shortest.iloc[np.random.default_rng(0).permutation(wanted)]
    made = Labelled.make(drawn["text"].tolist(), drawn["label"].tolist(), replies=drawn["reply"].tolist())
    return made.take(range(given.rows)), made.take(range(given.rows, given.rows + QUERIES))


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("TRACEMEND_DATA", HERE.parents[1] / "shared" / "data"))
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
