"""Influence as arithmetic on gradient rows: inner products, norms, aggregation over groups, flipped labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor

from tracemend.arrays import Floats
from tracemend.errors import TraceError
from tracemend.trace.gradients import Gradients, Layout

Aggregate = Literal["whole", "mean", "rank", "vote"]

# Below this norm a gradient has no direction: its cosine with anything counts as zero.
_VANISHED = 1e-20


def inner(
    train: Tensor, query: Tensor, *, metric: Tensor | None = None, by_train: bool = False, by_query: bool = False
) -> Tensor:
    r"""Inner products :math:`\langle g_i, q_j \rangle_d = \sum_p g_{ip} d_p q_{jp}` [n, q].

    Args:
        train: gradients of training examples [n, P].
        query: gradients of queries [q, P].
        metric: d [P], positive; None is the plain product. It is applied to the query, never to the training side.
        by_train, by_query: divide by the norm (in the same metric) of that side; both give the cosine.
    """
    weighed = query if metric is None else query * metric
    found = train @ weighed.T
    if by_train:
        found = found / norms(train, metric).clamp(min=_VANISHED)[:, None]
    if by_query:
        found = found / norms(query, metric).clamp(min=_VANISHED)[None, :]
    return found


def norms(rows: Tensor, metric: Tensor | None = None) -> Tensor:
    """Norm of each row in the metric [n]."""
    if metric is None:
        found: Tensor = rows.norm(dim=1)
        return found
    return (rows.square() @ metric).sqrt()


def adam_metric(
    layout: Layout, moments: Mapping[str, Tensor], *, step: int, beta: float = 0.999, epsilon: float = 1e-8
) -> Tensor:
    r"""What Adam divides a gradient by, inverted: :math:`d = 1 / (\sqrt{v / (1 - \beta^t)} + \epsilon)` [P].

    A step of Adam on example i changes the loss of query j by the product in this metric, to first order.

    Args:
        moments: second moments v by parameter name.
        step: optimizer steps t they come from.
        beta: the optimizer's beta2.

    Raises:
        TraceError: there is no second moment for a part of the rows.
    """
    parts = []
    for block in layout:
        if block.name not in moments:
            raise TraceError(
                f"the optimizer kept no second moment for {block.name} (known: {', '.join(moments) or 'none'}); "
                "gradients at the output of a prompt encoder and other optimizers than Adam need optimizer='sgd'."
            )
        # A block holds the leading elements of its parameter.
        v = moments[block.name].flatten()[: block.size].float() / (1 - beta**step)
        parts.append(1.0 / (v.sqrt() + epsilon))
    return torch.cat(parts)


def aggregate(scores: Floats, how: Aggregate, *, top: int = 20) -> Floats:
    """One score a pair from the scores of several layer groups [groups, n, q] -> [n, q].

    Args:
        how: ``mean`` of the scores; ``rank``: mean rank among the training examples, scaled to -1 (strongest opponent)
            .. 1 (strongest proponent); ``vote``: share of groups that have it among their ``top`` proponents less the
            share that have it among their ``top`` opponents (Vitel and Chhabra 2025, arXiv 2511.04715).

    Raises:
        TraceError: no such way.
    """
    n = scores.shape[1]
    if how == "mean":
        found = scores.mean(axis=0)
    elif how == "rank":
        ranks = rankdata(scores, axis=1) - 1
        found = (2 * ranks / max(1, n - 1) - 1).mean(axis=0)
    elif how == "vote":
        k = min(top, n // 2) or 1
        ranks = rankdata(scores, axis=1, method="ordinal")
        # Of examples that do nothing, some would be among the first by their place.
        found = ((ranks > n - k) & (scores > 0)).mean(axis=0) - ((ranks <= k) & (scores < 0)).mean(axis=0)
    else:
        raise TraceError(f"the aggregation {how!r} is not one of: whole, mean, rank, vote")
    return np.asarray(found, dtype=np.float32)


def flipped_factor(gradients: Gradients) -> Floats:
    r"""What turns each gradient into that of the other of two labels [n], without another pass.

    With two labels the gradient is the residual times the gradient of the margin, so under the other label it is
    :math:`-(1 - r) / r` times itself, with :math:`r = 1 - p_y`. With more labels there is no such factor:
    each label has a Jacobian of its own; trace ``data.relabelled(...)`` instead.

    Raises:
        TraceError: there are not two labels.
    """
    if gradients.logits.shape[1] != 2:
        raise TraceError(
            f"the gradient under another label is a multiple of the given one for 2 labels only, "
            f"here are {gradients.logits.shape[1]}; trace data.relabelled(...) instead."
        )
    r = residuals(gradients.losses)
    return -(1 - r) / r


def residuals(losses: Floats) -> npt.NDArray[np.float64]:
    """Probability that the model denies each example's own label, ``1 - p_y`` [n], from the losses."""
    return np.asarray(np.maximum(-np.expm1(-losses.astype(np.float64)), 1e-12))


def relabel_gain(scores: Floats, losses: Floats) -> Floats:
    r"""What giving each example its other label does for each query, in units of the score [n, q]; two labels.

    Removing example i takes its influence away and gains ``-score``. Giving it the other label also adds the opposite
    influence and gains :math:`-score / r` with :math:`r = 1 - p_y`, so for an opponent it is never less.

    Args:
        scores: plain products (dot), not cosines [n, q].
        losses: of the training examples [n].
    """
    return -scores / residuals(losses)[:, None]
