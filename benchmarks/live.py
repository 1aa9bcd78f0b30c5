"""What tracing adds to a training: a Trainer with and without TraceCallback(gradients=True), minilm, 32 x 64 tokens.

    python benchmarks/live.py
    python benchmarks/live.py --repeats 7 --json

Trainings with and without alternate, so that whatever else the machine does falls on both; the share is the median of
the pairs'. Wall-clock time counts (``live_overhead``, the worse adapter); processor time stands beside it, since the
writer has a thread of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

BATCH, LENGTH, PROMPT, RANK = 32, 64, 20, 8


def main() -> None:
    """Print one row an adapter, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="pairs of trainings")
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps of a training")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = {
        kind: measure(kind, repeats=given.repeats, steps=given.steps, device=given.device)
        for kind in ("prompt", "lora")
    }
    if given.json:
        worst = max(one["overhead"] for one in found.values())
        print(json.dumps({"live_overhead": worst, "device": given.device, "repeats": given.repeats, **found}))
        return
    print("| adapter | ms a step without | with | added, wall | quartiles of the pairs | added, processor |")
    print("|---|---|---|---|---|---|")
    for kind, one in found.items():
        low, high = one["quartiles"]
        print(
            f"| {kind} | {one['without_ms']:.0f} | {one['with_ms']:.0f} | {one['overhead']:+.1%} | "
            f"{low:+.1%} to {high:+.1%} | {one['overhead_processor']:+.1%} |"
        )


def measure(kind: Any, *, repeats: int, steps: int, device: str) -> dict[str, Any]:
    """Seconds of trainings with and without, in pairs."""
    import torch

    from tracemend.models import load
    from tracemend.tuning import TextClassifier

    classifier = TextClassifier(
        load("minilm"), ("safe", "unsafe"), kind=kind, virtual_tokens=PROMPT, rank=RANK, max_length=LENGTH
    )
    classifier.network.to(device)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 20000, (steps * BATCH, LENGTH), generator=generator).tolist()
    examples = [{"row": i, "ids": row, "label": i % 2} for i, row in enumerate(ids)]
    train(classifier, examples, steps=2, gradients=True)  # warm-up
    wall: dict[bool, list[float]] = {False: [], True: []}
    processor: dict[bool, list[float]] = {False: [], True: []}
    for repeat in range(repeats):
        for gradients in (False, True) if repeat % 2 else (True, False):
            seconds = train(classifier, examples, steps=steps, gradients=gradients)
            wall[gradients].append(seconds[0])
            processor[gradients].append(seconds[1])
    shares = [w / wo - 1 for w, wo in zip(wall[True], wall[False], strict=True)]
    quartiles = statistics.quantiles(shares, n=4)
    return {
        "overhead": round(statistics.median(shares), 4),
        "quartiles": [round(quartiles[0], 4), round(quartiles[2], 4)],
        "overhead_processor": round(statistics.median(processor[True]) / statistics.median(processor[False]) - 1, 4),
        "without_ms": round(1000 * statistics.median(wall[False]) / steps, 1),
        "with_ms": round(1000 * statistics.median(wall[True]) / steps, 1),
    }


def train(classifier: Any, examples: list[dict[str, Any]], *, steps: int, gradients: bool) -> tuple[float, float]:
    """Seconds on the clock and of the processor from the first step to the end, everything written."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_utils import set_seed
    from transformers.utils import logging

    from tracemend import TraceCallback

    logging.set_verbosity_error()
    began: list[float] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            began[:] = [time.perf_counter(), time.process_time()]

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        labels = torch.tensor([e["label"] for e in batch])
        return {**classifier.batch([e["ids"] for e in batch]), "labels": labels}

    set_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trace = TraceCallback(classifier, Path(folder) / "run", gradients=gradients)
        args = TrainingArguments(
            output_dir=str(Path(folder) / "trainer"), max_steps=steps, per_device_train_batch_size=BATCH,
            use_cpu=not torch.cuda.is_available() or classifier.device.type == "cpu", save_strategy="no",
            logging_strategy="no", report_to=[], disable_tqdm=True, remove_unused_columns=False,
            dataloader_pin_memory=False,
        )  # fmt: skip
        kind: Any = Trainer
        job = kind(
            classifier.network, args, train_dataset=examples, data_collator=trace.collator(collate),
            callbacks=[Clock(), trace],
        )  # fmt: skip
        job.remove_callback(_printer())
        job.train()
        if classifier.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began[0], time.process_time() - began[1]


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


if __name__ == "__main__":
    main()
