"""Building and reading the gradient store: examples a second, bytes an example, and the share of what ``cat`` reaches.

minilm with a soft prompt of 20 tokens or LoRA r = 8, sst2 sentences. Reading and ``cat`` alternate, the cache is warm,
every byte is copied; medians. ``--table`` prints the arithmetic for 1 M and 1 B examples from the measured speed.

python benchmarks/store.py [--rows 2000] [--adapters prompt lora] [--repeats 9] [--price 2.50] [--table | --json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracemend.tuning.adapters import Kind

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

# Bytes of a block that stays in a processor's cache.
BLOCK = 2**21
SIZES = {"1 M": 10**6, "1 B": 10**9}


def measured(adapter: Kind, rows: int, repeats: int) -> dict[str, Any]:
    """Build a store and read it back."""
    import torch

    from tracemend.data import reference
    from tracemend.data.splits import sample
    from tracemend.models import load
    from tracemend.trace.store import GradientStore
    from tracemend.tuning import Checkpoint, TextClassifier

    data = sample(reference("sst2"), rows)
    classifier = TextClassifier(load("minilm"), data.labels, kind=adapter, virtual_tokens=20, rank=8, max_length=64)
    state = Checkpoint(step=1, lr_sum=1.0, state=classifier.state(), moments={})
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        store = GradientStore.build(folder, classifier, data, [state], batch_size=32)
        seconds = time.monotonic() - began
        files = [store.file(0, shard) for shard in store.own]
        size = sum(file.stat().st_size for file in files)
        shares = reading(store, files, repeats)
    return {
        "adapter": adapter,
        "width": store.width,
        "mean_tokens": round(float(store.rows["length"].mean()), 1),
        "threads": torch.get_num_threads(),
        "device": str(classifier.device),
        "rows_per_second": round(rows / seconds, 1),
        "bytes_per_row": round(size / rows, 1),
        **shares,
    }


def reading(store: Any, files: list[Path], repeats: int) -> dict[str, float]:
    """Gigabytes a second of ``cat``, of whole shards and of blocks, and their shares of ``cat``."""
    size = sum(file.stat().st_size for file in files)
    out, small = store.buffer(), store.buffer(max(1, BLOCK // (2 * store.width)))

    def cat() -> None:
        subprocess.run(["cat", *files], stdout=subprocess.DEVNULL, check=True)

    def whole() -> None:
        for shard in store.own:
            store.read(0, shard, out)

    def blocks() -> None:
        for shard in store.own:
            for _ in store.blocks(0, shard, small):
                pass

    took: dict[str, list[float]] = {"cat": [], "whole": [], "blocks": []}
    for _ in range(repeats + 1):
        for name, work in (("cat", cat), ("whole", whole), ("blocks", blocks)):
            began = time.perf_counter()
            work()
            took[name].append(time.perf_counter() - began)
    speed = {name: size / statistics.median(seconds[1:]) / 1e9 for name, seconds in took.items()}
    return {
        **{f"{name}_gb_per_second": round(value, 2) for name, value in speed.items()},
        "whole_share_of_cat": round(speed["whole"] / speed["cat"], 3),
        "read_share_of_cat": round(speed["blocks"] / speed["cat"], 3),
    }


def table(found: list[dict[str, Any]], price: float) -> str:
    """Markdown: time, disk and cost of one checkpoint, by the formulas of docs/scaling.md."""
    lines = [
        "| adapter | P | rows/s and process | examples | disk | process hours | hours with 64 | cost |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        for name, n in SIZES.items():
            hours, disk = n / one["rows_per_second"] / 3600, n * one["bytes_per_row"] / 1e9
            lines.append(
                f"| {one['adapter']} | {one['width']:,} | {one['rows_per_second']:,} | {name} "
                f"| {disk:,.0f} GB | {hours:,.1f} | {hours / 64:,.2f} | {hours * price:,.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure each adapter and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--adapters", nargs="+", default=["prompt", "lora"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--price", type=float, default=2.50, help="of an hour of one process")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--table", action="store_true")
    shown.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = [measured(adapter, given.rows, given.repeats) for adapter in given.adapters]
    if given.json:
        print(json.dumps(found, indent=2))
    elif given.table:
        print(table(found, given.price))
    else:
        for one in found:
            print("\n".join(f"{name:<24} {value}" for name, value in one.items()), end="\n\n")


if __name__ == "__main__":
    main()
