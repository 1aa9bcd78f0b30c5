"""kronfluence: ``Analyzer.compute_self_scores`` of the batch, with the identity in the Hessian's place."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from typing import Any

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch import Tensor
from torch.utils.data import TensorDataset

from benchmarks.peers.case import Prepared
from benchmarks.peers.protocol import Work, serve


class _Summed(Task):  # type: ignore[misc] # it has no types here
    """The summed loss over the modules that own a trainable parameter."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        names = [name for name, p in prepared.model.named_parameters() if p.requires_grad]
        self.modules = list(dict.fromkeys(name.rpartition(".")[0] for name in names))

    def compute_train_loss(self, batch: Any, model: torch.nn.Module, sample: bool = False) -> Tensor:
        ids, mask, targets = batch
        return self.prepared.losses(model(ids, mask), targets).sum()

    def compute_measurement(self, batch: Any, model: torch.nn.Module) -> Tensor:
        return self.compute_train_loss(batch, model)

    def get_influence_tracked_modules(self) -> list[str]:
        return self.modules


def work(prepared: Prepared, request: dict[str, Any]) -> Work:
    """Self-influence [B]."""
    task = _Summed(prepared)
    folder = tempfile.mkdtemp(prefix="kronfluence-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    analyzer = Analyzer(
        analysis_name="speed",
        model=prepare_model(prepared.model, task),
        task=task,
        cpu=True,
        disable_tqdm=True,
        output_dir=folder,
    )
    data = TensorDataset(prepared.ids, prepared.mask, prepared.targets)
    size = len(prepared.ids)
    identity = FactorArguments(strategy="identity")
    analyzer.fit_all_factors(factors_name="identity", dataset=data, per_device_batch_size=size, factor_args=identity)

    def once() -> Tensor:
        analyzer.compute_self_scores(
            scores_name="self",
            factors_name="identity",
            train_dataset=data,
            per_device_train_batch_size=size,
            score_args=ScoreArguments(),
            overwrite_output_dir=True,
        )
        scores: Tensor = analyzer.load_self_scores("self")["all_modules"]
        return scores

    return Work(once=once, squares=lambda found: found)


if __name__ == "__main__":
    serve("kronfluence", work)
