"""Minimum description length of labels given vectors, by the online code."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.errors import ProbeError
from tracemend.probing.solver import Solver
from tracemend.progress import Progress

# Ends of the blocks as shares of the data, those of the paper.
FRACTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
FEWEST = 200


def online_codelength(
    x: Tensor,
    y: npt.NDArray[np.int64],
    classes: int,
    *,
    solver: Solver,
    seed: int = 0,
    progress: Progress = Progress(),
) -> npt.NDArray[np.float64]:
    r"""Bits to send the labels to somebody who has the vectors (Voita and Titov 2020, arXiv 2003.12298).

    .. math:: L = t_1 \log_2 K - \sum_i \log_2 p_{\theta_i}(y_{t_i + 1 .. t_{i+1}} | x)

    with a probe trained anew on the first t_i examples before each block of 0.1, 0.2, 0.4 ... 100 % of them. It counts
    the probe's size and the data it needs along with its errors, so that it needs no choice of how strong a probe is
    fair: labels made at random are dear to send however large the probe. The uniform code takes n log2 K bits; its
    ratio to L is the compression.

    Args:
        x: vectors [layers, n, d].
        y: label indices [labellings, n].
        classes: K.
        solver: how a probe is trained.
        seed: of the order, the same for all layers and labellings.

    Returns:
        Bits [layers, labellings].

    Raises:
        ProbeError: fewer than 200 examples.
    """
    n = x.shape[1]
    if n < FEWEST:
        raise ProbeError(f"a codelength of {n} examples says nothing; give at least {FEWEST}, or leave it out (mdl).")
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    ends = sorted({max(1, round(share * n)) for share in FRACTIONS})
    targets = torch.from_numpy(np.ascontiguousarray(y)).long()
    bits = torch.full((x.shape[0], len(targets)), ends[0] * float(np.log2(classes)), dtype=torch.float64)
    for begin, end in progress.track(list(pairwise(ends)), task="online code"):
        known, coming = order[:begin], order[begin:end]
        probes = replace(solver, seed=seed).fit(x[:, known], targets[:, known].numpy(), classes)
        said = probes.log_probabilities(x[:, coming])
        right = targets[:, coming].expand(x.shape[0], -1, -1)[..., None]
        bits -= said.gather(-1, right)[..., 0].double().sum(-1) / np.log(2)
    found: npt.NDArray[np.float64] = bits.numpy()
    return found
