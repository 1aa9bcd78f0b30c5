"""Scoring from disk beside an in-memory float32 matrix product of the same shapes; memory; reading beside cat.

python benchmarks/scoring.py --rows 20000 --queries 500 --width 7680 --checkpoints 3

A store of random bfloat16 rows is written to a temporary folder. Both sides run in turn in this process, with the
same threads; the share is the product's time over the scoring's, repeat by repeat. Memory is that of processes of
their own, which score all rows and half of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pandas as pd
import torch

from tracemend.runs import write_json, write_parquet
from tracemend.trace import Gradients
from tracemend.trace.gradients.layout import Part, lay_out
from tracemend.trace.scoring import HeldQueries, TracInScore, score
from tracemend.trace.store import GradientStore
from tracemend.trace.store.manifest import COLUMNS, SCHEMA, table_hash
from tracemend.trace.store.shards import write_shard

_SHARD_BYTES = 64 * 2**20
_ID = "synthetic"


def main() -> None:
    """Measure and print."""
    given = _arguments()
    if given.child is not None:
        print(json.dumps(_memory_of(given)))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        whole, half = Path(folder) / "store", Path(folder) / "half"
        build(whole, given.rows, given.width, given.checkpoints)
        if given.share:
            print(json.dumps(_times(given, whole), indent=2))
            return
        halve(whole, half)
        # Before this process grows: only what the children themselves take is measured, but they need the room.
        memory = {name: _child(given, path) for name, path in (("whole", whole), ("half", half))}
        found = {**_times(given, whole), **_reading(given, whole)}
    for name, one in memory.items():
        found[f"peak_mb_{name}"], found[f"above_baseline_mb_{name}"] = one["peak_mb"], one["above_baseline_mb"]
    found["peak_growth_mb_per_1000_rows"] = round(
        1000 * (found["peak_mb_whole"] - found["peak_mb_half"]) / (given.rows / 2), 3
    )
    if given.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        print(f"{name:<36} {value}")


def build(path: Path, rows: int, width: int, checkpoints: int) -> None:
    """A store of random bfloat16 rows in shards of 64 MB, as any store looks on disk."""
    size = max(1, _SHARD_BYTES // (2 * width))
    shards = -(-rows // size)
    order = np.random.default_rng(0).permutation(rows)
    here = np.arange(rows)
    table = pd.DataFrame({name: np.zeros(rows, dtype=np.int64) for name in COLUMNS})
    table = table.assign(row=order, shard=here // size, origin=here // size, place=here % size)
    table = table.assign(uid=[f"{i:012x}-0" for i in order], label="safe")
    layout = [{"name": "prompt", "shape": [1, width], "offset": 0, "group": "prompt", "kind": "dense"}]
    write_parquet(path / "rows.parquet", table)
    manifest = {
        "schema": SCHEMA,
        "id": _ID,
        "dtype": "bfloat16",
        "layout": layout,
        "shards": shards,
        "rows": table_hash(table),
        "parent": None,
        "checkpoints": [{"step": 10 * c + 10, "lr_sum": 0.01 * (c + 1), "moments": None} for c in range(checkpoints)],
    }
    write_json(path / "manifest.json", manifest)
    generator = torch.Generator().manual_seed(0)
    for checkpoint in range(checkpoints):
        for shard in range(shards):
            n = min(size, rows - shard * size)
            grads = torch.randn(n, width, generator=generator)
            tensors = {
                "grads": grads.bfloat16(),
                "loss": torch.ones(n),
                "norm": grads.norm(dim=1),
                "logits": torch.zeros(n, 2),
                "label": torch.zeros(n, dtype=torch.int64),
                "row": torch.from_numpy(order[shard * size : shard * size + n].copy()),
            }
            file = path / f"ckpt-{checkpoint:04d}" / f"shard-{shard:05d}.safetensors"
            write_shard(file, tensors, {"store": _ID, "checkpoint": checkpoint, "shard": shard})


def halve(whole: Path, half: Path) -> None:
    """The first half of a store's rows: the same files, another table."""
    half.mkdir()
    manifest = json.loads((whole / "manifest.json").read_text("utf-8"))
    table = pd.read_parquet(whole / "rows.parquet")
    table = table.iloc[: len(table) // 2].reset_index(drop=True)
    table["row"] = table["row"].rank().astype(np.int64) - 1
    write_parquet(half / "rows.parquet", table)
    shards = int(table["shard"].max()) + 1
    write_json(half / "manifest.json", {**manifest, "shards": shards, "rows": table_hash(table)})
    for folder in whole.glob("ckpt-*"):
        (half / folder.name).symlink_to(folder.resolve())


def queries_for(given: argparse.Namespace) -> HeldQueries:
    """Random gradients, one set a checkpoint."""
    layout = lay_out([Part("prompt", (1, given.width), "prompt")])
    generator = torch.Generator().manual_seed(1)
    n = given.queries
    small = np.ones(n, dtype=np.float32), np.zeros((n, 2), dtype=np.float32), np.zeros(n, dtype=np.int64)
    uid = tuple(f"q{i}" for i in range(n))
    return HeldQueries(
        [
            Gradients(torch.randn(n, given.width, generator=generator), *small, uid, layout)
            for _ in range(given.checkpoints)
        ]
    )


def _times(given: argparse.Namespace, path: Path) -> dict[str, Any]:
    store, queries = GradientStore.open(path), queries_for(given)
    held = torch.randn(given.rows, given.width)
    asked = [part.grads.T.contiguous() for part in queries.parts]
    out = torch.empty(given.rows, given.queries)

    def product() -> None:
        for query in asked:
            torch.mm(held, query, out=out)

    ways: dict[str, Callable[[], object]] = {
        "matmul": product,
        "scoring": lambda: score(store, queries, TracInScore(), top=20),
    }
    if not given.share:
        ways["scoring_dense"] = lambda: _dense(store, queries, path.parent)
    seconds = _interleaved(ways, given.repeats)
    found: dict[str, Any] = {
        "rows": given.rows, "queries": given.queries, "width": given.width, "checkpoints": given.checkpoints,
        "threads": torch.get_num_threads(), "repeats": given.repeats,
    }  # fmt: skip
    for name, times in seconds.items():
        found[f"{name}_s"] = _spread(times)
    for name in [way for way in ways if way != "matmul"]:
        shares = [m / s for m, s in zip(seconds["matmul"], seconds[name], strict=True)]
        found[f"{name}_share_of_matmul"] = _spread(shares)
    found["share_of_matmul"] = found["scoring_share_of_matmul"]["median"]
    return found


def _dense(store: GradientStore, queries: HeldQueries, folder: Path) -> None:
    path = folder / "scores.npy"
    score(store, queries, TracInScore(), top=20, dense=path)
    path.unlink()
    path.with_name("scores.npy.json").unlink()


def _reading(given: argparse.Namespace, path: Path) -> dict[str, Any]:
    store = GradientStore.open(path)
    files = sorted(path.glob("ckpt-*/shard-*"))
    size = sum(file.stat().st_size for file in files)
    buffer = store.buffer()
    sizes = store.rows.groupby("shard").size()

    def read(step: int) -> None:
        for checkpoint in range(given.checkpoints):
            for shard, n in enumerate(sizes):
                for at in range(0, n, step):
                    store.read(checkpoint, shard, out=buffer, part=slice(at, at + step))

    def cat() -> None:
        with Path(os.devnull).open("wb") as nowhere:
            subprocess.run(["cat", *map(str, files)], stdout=nowhere, check=True)

    ways = {"cat": cat, "read_512_rows": lambda: read(512), "read_shards": lambda: read(int(sizes.max()))}
    seconds = _interleaved(ways, given.repeats)
    found: dict[str, Any] = {f"{n}_gb_per_s": _spread([size / 1e9 / s for s in v]) for n, v in seconds.items()}
    for name in ("read_512_rows", "read_shards"):
        shares = [c / s for c, s in zip(seconds["cat"], seconds[name], strict=True)]
        found[f"{name}_share_of_cat"] = _spread(shares)
    return found


def _interleaved(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    for work in ways.values():  # warm: the files' pages, the kernels
        work()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def _spread(values: list[float]) -> dict[str, float]:
    return {
        name: round(float(found), 4)
        for name, found in (("median", np.median(values)), ("min", min(values)), ("max", max(values)))
    }


def _child(given: argparse.Namespace, path: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", str(path)]
    for name in ("queries", "width", "checkpoints"):
        command += [f"--{name}", str(getattr(given, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _memory_of(given: argparse.Namespace) -> dict[str, float]:
    store, queries = GradientStore.open(given.child), queries_for(given)
    _ = torch.randn(64, 64) @ torch.randn(64, 64)
    before = _status("VmRSS")
    score(store, queries, TracInScore(), top=20)
    peak = _status("VmHWM")
    return {"peak_mb": round(peak, 1), "above_baseline_mb": round(peak - before, 1)}


def _status(name: str) -> float:
    # Of this address space alone; the peak that getrusage gives is inherited from the parent.
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status has no {name}: memory is measured on Linux only.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--width", type=int, default=7_680, help="numbers of a row, P")
    parser.add_argument("--checkpoints", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the store goes (default: the temporary folder)"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--share", action="store_true", help="only the share of the product's speed, as JSON")
    parser.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
