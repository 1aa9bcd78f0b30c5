"""Why codelengths differ: the same labels sent by probes that are trained in different ways, and by no model at all."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.probes.measures import Figures, treebank
from tracemend.models import load, represent
from tracemend.probing.codelength import FRACTIONS, online_codelength
from tracemend.probing.controls import control_task
from tracemend.probing.solver import Solver
from tracemend.probing.tasks import items

Says = Callable[[Tensor], Tensor]


def codes(given: argparse.Namespace, seed: int) -> Figures:
    """Compression of parts of speech and of their control task on layer 2 of minilm, 12,000 words."""
    train = items(treebank("ud_ewt").split()["train"], "upos").sample(12_000, seed=seed)
    names = sorted(set(train.label))
    y = np.array([names.index(label) for label in train.label])
    (drawn,) = control_task([train.form], y, len(names), seed=seed)
    vectors = represent(load("minilm"), train.words, layers=[2], cache=given.cache)
    starts = np.searchsorted(vectors.sentence, np.arange(len(train.words)))
    x = vectors.hidden[:, starts[train.sentence] + train.word]
    uniform, both = len(y) * float(np.log2(len(names))), np.stack([y, drawn])
    found: dict[str, float] = {}
    for name, c in (("ours", 0.1), ("C = 10", 10.0)):
        bits = online_codelength(x, both, len(names), solver=Solver(c=c), seed=seed)[0]
        found |= {f"{name}, task": uniform / bits[0], f"{name}, control": uniform / bits[1]}
    for name, labels in (("task", y), ("control", drawn)):
        bits = _full_batch_code(x[0], labels, len(names), seed)
        found[f"150 full-batch steps, {name}"] = uniform / bits
    shares = np.bincount(drawn, minlength=len(names)) / len(drawn)
    found["frequencies, control"] = uniform / float(-np.log2(shares[drawn]).sum())
    found["word types, control"] = uniform / _remembered(train.form, drawn, shares, seed)
    return found


def _blocks(n: int, seed: int) -> tuple[npt.NDArray[np.int64], list[tuple[int, int]]]:
    """The order and the blocks of :func:`online_codelength`."""
    ends = sorted({max(1, round(share * n)) for share in FRACTIONS})
    return np.random.default_rng(seed).permutation(n), list(pairwise(ends))


def _full_batch_code(x: Tensor, y: npt.NDArray[np.int64], classes: int, seed: int) -> float:
    """Bits, by a linear probe of 150 full-batch steps of Adam with weight decay 1e-4."""
    order, blocks = _blocks(len(y), seed)
    place, target = torch.from_numpy(order), torch.from_numpy(y)
    bits = blocks[0][0] * float(np.log2(classes))
    for begin, end in blocks:
        says = _full_batch(x[place[:begin]], target[place[:begin]], classes)
        said = says(x[place[begin:end]]).gather(1, target[place[begin:end]][:, None])
        bits -= float(said.sum()) / np.log(2)
    return bits


def _full_batch(x: Tensor, y: Tensor, classes: int) -> Says:
    mean, scale = x.mean(0), x.std(0, correction=0).clamp_min(1e-6)
    weights = torch.zeros(x.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.Adam([weights, bias], lr=0.01, weight_decay=1e-4)
    for _ in range(150):
        optimizer.zero_grad()
        functional.cross_entropy((x - mean) / scale @ weights + bias, y).backward()
        optimizer.step()

    def says(other: Tensor) -> Tensor:
        with torch.no_grad():
            return ((other - mean) / scale @ weights + bias).log_softmax(-1)

    return says


def _remembered(forms: tuple[str, ...], y: npt.NDArray[np.int64], shares: npt.NDArray[np.float64], seed: int) -> float:
    """Bits, by a table of the word types of earlier blocks; of other words the frequencies."""
    order, blocks = _blocks(len(y), seed)
    bits = blocks[0][0] * float(np.log2(len(shares)))
    for begin, end in blocks:
        known = {forms[i] for i in order[:begin]}
        bits += sum(-np.log2(shares[y[i]]) for i in order[begin:end] if forms[i] not in known)
    return float(bits)
