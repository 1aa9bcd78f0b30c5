"""Reading what a traced training left: a table of every use of every example, and influence over the trajectory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tracemend.data import Examples
from tracemend.errors import TraceError
from tracemend.progress import Progress
from tracemend.runs import read_json
from tracemend.trace.gradients import Block, Gradients, Layout, per_example_gradients
from tracemend.trace.gradients.layout import expand
from tracemend.trace.scores import adam_metric
from tracemend.trace.tracin import at
from tracemend.tuning import Adapted, Checkpoint

_FACTS = ("row", "step", "lr", "clip", "share", "loss", "norm")


@dataclass(frozen=True, eq=False)
class LiveTrace:
    """The gradients of a training, each taken at the step that used it.

    A gradient g is that of the loss as trained: with class weights or label smoothing theirs, with dropout under the
    very mask of the step. The mean over a step's examples is the gradient of the step before clipping, so that plain
    SGD moved the parameters by the sum of ``- lr * clip * share * g``.

    Attributes:
        path: its folder.
        manifest: layout, dtype, and at which steps the training began and resumed.
        table: one row a use of an example, in the order of training: ``row`` and ``uid`` of the example, ``step``
            (optimizer steps before it), ``lr``, ``clip`` (what clipping multiplied the step's gradient by), ``share``
            (one over the examples of the step), ``loss`` (nats, unweighted; NaN where the network was given no
            labels), ``norm`` of g, and where it lies: ``shard`` and ``place``.

    Example:
        >>> live = LiveTrace.open("runs/mine")
        >>> live.table[["uid", "step", "lr", "loss", "norm"]]
        >>> live.self_influence().nlargest(20)
        >>> live.influence(query_gradients(classifier, errors, trace.checkpoints))
    """

    path: Path
    manifest: Mapping[str, Any]
    table: pd.DataFrame

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Read all but the gradients, from ``out`` of a :class:`TraceCallback` or its folder ``live``.

        Steps that a resumed training took again count once, as taken last.

        Raises:
            RunError: there are no gradients of a training.
            TraceError: a shard is damaged.
        """
        path = Path(path)
        folder = path if (path / "manifest.json").exists() else path / "live"
        manifest = read_json(folder / "manifest.json")
        parts = []
        for file in sorted(folder.glob("shard-*.safetensors")):
            number = int(file.stem[6:])
            with _opened(file) as held:
                part = pd.DataFrame({name: held.get_tensor(name).numpy() for name in _FACTS})
            # A later attempt took all steps from its first one on.
            again = [attempt["step"] for attempt in manifest["attempts"] if attempt["shard"] > number]
            part = part.assign(shard=number, place=np.arange(len(part)))
            parts.append(part[part["step"] < min(again, default=np.inf)])
        columns = [*_FACTS, "shard", "place"]
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
        named = folder / "rows.parquet"
        uid = pd.read_parquet(named)["uid"].to_numpy() if named.exists() else None
        rows = table["row"].to_numpy(dtype=np.int64)
        table.insert(1, "uid", rows.astype(str).astype(object) if uid is None else uid[rows])
        return cls(folder, manifest, table)

    @property
    def layout(self) -> Layout:
        """Which columns of a gradient belong to which parameter."""
        return tuple(
            Block(b["name"], tuple(b["shape"]), b["offset"], b["group"], b["kind"]) for b in self.manifest["layout"]
        )

    @property
    def weights(self) -> pd.Series:
        """How far plain SGD went along each gradient, ``lr * clip * share`` [uses]."""
        return self.table["lr"] * self.table["clip"] * self.table["share"]

    def shards(self, *, progress: Progress = Progress()) -> Iterator[tuple[pd.DataFrame, Tensor]]:
        """Rows of the table and their gradients [uses, P], float32, as :attr:`layout` says, shard by shard.

        Raises:
            TraceError: a shard is damaged.
        """
        for number, part in progress.track(list(self.table.groupby("shard")), task="live gradients"):
            with _opened(self.path / f"shard-{number:06d}.safetensors") as held:
                grads = held.get_tensor("grads")
            yield part, grads[torch.tensor(part["place"].to_numpy())].float()

    def self_influence(self) -> pd.Series:
        r"""How much the steps on each example lowered its own loss, to first order: :math:`\sum_t w_t |g_{it}|^2` [n].

        By uid, in nats. High values mark memorised examples, wrong labels among them.
        """
        each = self.weights * self.table["norm"] ** 2
        found: pd.Series = each.groupby(self.table["uid"], sort=False).sum()
        return found.rename("self_influence")

    def influence(
        self, query_gradients: Gradients | Mapping[int, Gradients], *, progress: Progress = Progress()
    ) -> pd.DataFrame:
        r"""TracIn over the trajectory (Pruthi et al. 2020, arXiv 2002.08484, section 3.1, "idealized" influence).

        .. math:: score(i, j) = \sum_{t: i \in B_t} w_t \langle g_{it}, q_{j} \rangle, \quad w_t = lr_t clip_t / |B_t|

        What the steps on example i lowered the loss of query j by, in nats and to first order, had SGD taken them.
        Positive: a proponent. With query gradients of every step this is exact to first order; with those of
        checkpoints each use of an example meets the nearest in time.

        Args:
            query_gradients: of the queries, dense, at one state or by the optimizer steps before it
                (:func:`query_gradients` makes them).

        Returns:
            Scores [examples, queries]; index and columns are uids.

        Raises:
            TraceError: the queries have another layout or differ between states, or a gradient of the training is not
                finite.
        """
        states = query_gradients if isinstance(query_gradients, Mapping) else {0: query_gradients}
        if not states:
            raise TraceError("there are no query gradients; give those of at least one state.")
        queries = next(iter(states.values())).uid
        for gradients in states.values():
            self._compare(gradients, queries)
        self._finite()
        codes, uid = pd.factorize(self.table["uid"])
        scores = torch.zeros(len(uid), len(queries), dtype=torch.float64)
        steps = np.array(sorted(states))
        weights = torch.tensor(self.weights.to_numpy())
        for part, grads in self.shards(progress=progress):
            dense, _ = expand(grads, self.layout)
            nearest = np.abs(part["step"].to_numpy()[:, None] - steps[None, :]).argmin(axis=1)
            for which in np.unique(nearest):
                chosen = np.flatnonzero(nearest == which)
                products = dense[torch.tensor(chosen)] @ states[int(steps[which])].grads.T
                where = part.index.to_numpy()[chosen]
                weighed = products.double() * weights[torch.tensor(where)][:, None]
                scores.index_add_(0, torch.tensor(codes[where]), weighed)
        return pd.DataFrame(scores.numpy(), index=pd.Index(uid, name="uid"), columns=list(queries))

    def _compare(self, gradients: Gradients, queries: tuple[str, ...]) -> None:
        if gradients.uid != queries:
            raise TraceError("the queries differ between the states; give the same examples in the same order.")
        _, dense = expand(torch.zeros(0, sum(block.size for block in self.layout)), self.layout)
        if gradients.layout != dense:
            raise TraceError(
                "the queries' gradients are laid out in another way than the training's; take them of the same "
                "classifier with per_example_gradients(..., method='fast'), dense."
            )

    def _finite(self) -> None:
        broken = self.table[~np.isfinite(self.table["norm"].to_numpy(dtype=np.float64))]
        if len(broken):
            first = broken.iloc[0]
            raise TraceError(
                f"the gradient of example {first['uid']} at step {first['step']} is not finite ({len(broken)} such); "
                "train with a lower learning rate, or in fp32."
            )


def query_gradients(
    classifier: Adapted,
    queries: Examples,
    checkpoints: Sequence[Checkpoint],
    *,
    optimizer: Literal["sgd", "adam"] = "sgd",
    batch_size: int = 16,
    progress: Progress = Progress(),
) -> dict[int, Gradients]:
    """Gradients of the queries at each checkpoint, by its step: what :meth:`LiveTrace.influence` takes.

    Args:
        queries: with the labels they should have.
        checkpoints: of the same training, as :attr:`TraceCallback.checkpoints` names them.
        optimizer: ``adam`` preconditions them with the checkpoint's second moments, as Adam did its steps.

    Raises:
        TraceError: the fast way is not exact here, or the optimizer kept no second moments.
    """
    found: dict[int, Gradients] = {}
    for checkpoint in checkpoints:
        with at(classifier, checkpoint):
            one = per_example_gradients(classifier, queries, method="fast", batch_size=batch_size, progress=progress)
        if optimizer == "adam":
            moments = checkpoint.second_moments()
            metric = adam_metric(one.layout, moments, step=checkpoint.step, beta=checkpoint.beta2)
            one = replace(one, grads=one.grads * metric)
        found[checkpoint.step] = one
    return found


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise TraceError(
            f"{path} is missing or damaged ({error}); delete it to go on without its examples, or train again."
        ) from error
