"""bergson: the gradients of the batch as ``bergson build`` collects them, kept in memory instead of on disk."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bergson.collector.collector import CollectorComputer
from bergson.collector.in_memory_collector import InMemoryCollector
from bergson.config.config import IndexConfig
from bergson.utils.worker_utils import create_processor, setup_model_and_peft
from datasets import Dataset

from benchmarks.peers.case import Prepared
from benchmarks.peers.protocol import Work, serve, squared_norms


def work(prepared: Prepared, request: dict[str, Any]) -> Work:
    """Gradients by module, each [B, ...]; it loads base and adapter from disk, and knows one loss: the next tokens'."""
    folder = Path(tempfile.mkdtemp(prefix="bergson-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    prepared.classifier.language_model.network.save_pretrained(str(folder / "base"))
    prepared.classifier.network.save_pretrained(str(folder / "adapter"))
    config = folder / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": str(folder / "base")}))

    index = IndexConfig(
        run_path=str(folder / "run"),
        model=str(folder / "adapter"),
        model_kwargs=f"attn_implementation={prepared.case.attention}",
        loss_reduction="mean",
        include_bias=True,
    )
    index.partial_run_path.mkdir(parents=True)
    model, modules = setup_model_and_peft(index)
    processor = create_processor(model, index, modules)
    data = Dataset.from_dict({"input_ids": prepared.ids.tolist()})
    everything = [list(range(len(data)))]

    def once() -> InMemoryCollector:
        collector = InMemoryCollector(
            model=model.base_model, data=data, cfg=index, processor=processor, target_modules=modules
        )
        CollectorComputer(model, data, collector=collector, batches=everything, cfg=index).run_with_collector_hooks()
        return collector

    return Work(
        once=once,
        squares=lambda collector: squared_norms(collector.gradients.values()),
        note="it loads a causal language model and takes the loss of the next tokens",
    )


if __name__ == "__main__":
    serve("bergson", work)
