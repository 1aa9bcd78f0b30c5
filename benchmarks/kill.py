"""A store that is killed at random moments, again and again: does it end as one that nothing disturbed?

Each process is killed by SIGKILL at a random moment, between its start and some shards later. Nothing that was
finished may be lost, nothing half-written may pass for whole, and the hashes of all files must be those of an
undisturbed build. A tiny random-weights model: the moments are the point, not the model.

python benchmarks/kill.py [--kills 50] [--seed 0] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import random
import signal
import sys
import tempfile
import time
import warnings
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from tracemend.data import Labelled
from tracemend.models import tiny
from tracemend.trace.store import GradientStore, verify
from tracemend.tuning import Checkpoint, TextClassifier

LABELS = ("safe", "unsafe")
ROWS, SHARD_ROWS, CHECKPOINTS = 600, 4, 2
WORDS = ("love", "great", "nice", "happy", "hate", "awful", "terrible", "bad")


def build(path: Path) -> None:
    """Build the store, or what it lacks; the same in every process."""
    warnings.simplefilter("ignore")  # of libraries, to their programmers
    torch.set_num_threads(1)
    texts = [" ".join(WORDS[(i * 7 + j) % 8] for j in range(1 + i % 9)) + f" {i}" for i in range(ROWS)]
    data = Labelled.make(texts, [LABELS[i % 2] for i in range(ROWS)], label_names=LABELS)
    classifier = TextClassifier(tiny("bert"), LABELS, kind="lora", rank=2, max_length=32)
    generator = torch.Generator().manual_seed(0)
    checkpoints = []
    for step in range(1, CHECKPOINTS + 1):
        state = {n: 0.2 * torch.randn(p.shape, generator=generator) for n, p in classifier.state().items()}
        checkpoints.append(Checkpoint(step=step, lr_sum=1.0, state=state, moments={}))
    GradientStore.build(path, classifier, data, checkpoints, shard_rows=SHARD_ROWS)


def hashes(path: Path) -> dict[str, str]:
    """Sha256 of every file by its name, temporary ones and claims included."""
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def shards(path: Path) -> int:
    """How many are finished."""
    return len(list(path.glob("ckpt-*/shard-*.safetensors")))


def killed(process: BaseProcess, path: Path, wanted: int, pause: float) -> None:
    """Kill the process some time after so many shards are there."""
    while process.exitcode is None and not (path.exists() and shards(path) >= wanted):
        time.sleep(0.002)
    time.sleep(pause)
    process.kill()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        raise SystemExit(f"the process ended by itself with {process.exitcode}; nothing was killed")


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    warm = multiprocessing.get_context("forkserver")
    warm.set_forkserver_preload(["tracemend.trace.store", "transformers.models.bert.modeling_bert"])
    chance = random.Random(given.seed)
    total = CHECKPOINTS * -(-ROWS // SHARD_ROWS)
    began = time.monotonic()
    lost = torn = half = 0
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, path = Path(folder) / "undisturbed", Path(folder) / "store"
        build(undisturbed)
        kept = 0
        for number in range(given.kills):
            process = warm.Process(target=build, args=(path,))
            process.start()
            room = total - kept - (given.kills - number)
            wanted = 0 if number < given.kills // 5 else kept + chance.randrange(max(1, min(8, room)))
            killed(process, path, wanted, chance.random() * 0.03)
            lost += shards(path) < kept
            kept = shards(path)
            faults = verify(path) if (path / "manifest.json").exists() else []
            left = [f for f in faults if f.file.name.endswith(".tmp") or f.file.parent.name == ".claims"]
            half += len(left)
            torn += len(faults) - len(left)
            sys.stderr.write(f"\rkill {number + 1} of {given.kills}: {kept} of {total} shards")
        sys.stderr.write("\n")
        build(path)
        same = hashes(path) == hashes(undisturbed)
    found = {
        "kills": given.kills,
        "shards": total,
        "shards_before_the_last_kill": kept,
        "left_half_written": half,
        "finished_shards_lost": lost,
        "damaged_files_in_place": torn,
        "same_hashes": same,
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(found, indent=2) if given.json else "\n".join(f"{k:<28} {v}" for k, v in found.items()))
    if lost or torn or not same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
