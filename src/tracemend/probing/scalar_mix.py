"""One probe over all layers: a learnt mixture of them, and where its weight lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from tracemend.arrays import Indices
from tracemend.errors import ProbeError


@dataclass(frozen=True, eq=False)
class Spans:
    """Spans among the words of all sentences.

    Attributes:
        first: begin and end of each, as rows of the word vectors [n, 2].
        second: of the second spans [n, 2], or None.
    """

    first: Indices
    second: Indices | None

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, eq=False)
class Mixed:
    """What a mixture of layers came to.

    Attributes:
        weights: softmax(a) of each layer [layers].
        predicted: label indices of the test spans [n].
    """

    weights: npt.NDArray[np.float64]
    predicted: Indices

    def centre_of_gravity(self, layers: Sequence[int]) -> float:
        """Sum over layers of their numbers times their weights."""
        return float((np.array(layers) * self.weights).sum())


@dataclass(frozen=True, kw_only=True)
class ScalarMix:
    r"""Edge probe over a mixture of layers (Tenney et al. 2019, arXiv 1905.06316 and 1905.05950).

    .. math:: h_t = \gamma \sum_l softmax(a)_l h_t^l, \quad r = \sum_{t \in span} softmax_t(w \cdot P h_t) P h_t

    with a projection P and an attention w for each of the two spans, then a hidden layer and a softmax over labels (the
    papers take a sigmoid a label; here each span has exactly one). The layers are standardised first, over the words
    of the training spans, so that a weight is no matter of scale.

    Attributes:
        width: of the projection.
        epochs, batch_size, lr: of Adam; the step falls to zero.
        seed: of initial weights and order.
    """

    width: int = 256
    epochs: int = 5
    batch_size: int = 64
    lr: float = 2e-3
    seed: int = 0

    def fit(self, hidden: Tensor, train: Spans, y: Indices, classes: int, test: Spans) -> Mixed:
        """Train on some spans and predict others.

        Args:
            hidden: vectors of all words [layers, words, d].
            train: spans among them.
            y: label indices of the training spans [n].
            classes: how many labels there are.
            test: spans to predict.

        Raises:
            ProbeError: labels that do not fit the spans.
        """
        if len(train) != len(y) or not len(y):
            raise ProbeError(f"{len(y)} labels for {len(train)} spans; expected one each, and at least one.")
        known = hidden[:, torch.from_numpy(_covered(train))]
        # One word has no spread.
        mean, scale = known.mean(1, keepdim=True), known.std(1, keepdim=True, correction=0).clamp_min(1e-6)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = _EdgeNetwork(len(hidden), hidden.shape[2], self.width, classes, train.second is not None)
        order = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        steps = self.epochs * -(-len(y) // self.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
        targets = torch.from_numpy(y)

        def logits(spans: Spans, rows: Indices) -> Tensor:
            parts = [_gathered(hidden, mean, scale, of[rows]) for of in (spans.first, spans.second) if of is not None]
            found: Tensor = network(parts)
            return found

        for _ in range(self.epochs):
            shuffled = torch.randperm(len(y), generator=order).numpy()
            for begin in range(0, len(y), self.batch_size):
                rows = shuffled[begin : begin + self.batch_size]
                functional.cross_entropy(logits(train, rows), targets[rows]).backward()
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
        with torch.no_grad():
            rows = np.arange(len(test))
            said = [logits(test, rows[i : i + 512]).argmax(-1) for i in range(0, len(rows), 512)]
            weights: npt.NDArray[np.float64] = network.mix.softmax(0).double().numpy()
        return Mixed(weights, torch.cat(said).numpy())


class _EdgeNetwork(nn.Module):
    """The mixture, a projection and an attention a span, and a classifier."""

    def __init__(self, layers: int, d: int, width: int, classes: int, two: bool) -> None:
        super().__init__()
        spans = 2 if two else 1
        self.mix = nn.Parameter(torch.zeros(layers))
        self.gamma = nn.Parameter(torch.ones(()))
        self.project = nn.ModuleList([nn.Linear(d, width) for _ in range(spans)])
        self.attend = nn.ModuleList([nn.Linear(width, 1) for _ in range(spans)])
        self.classify = nn.Sequential(nn.Linear(spans * width, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, spans: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Logits [b, classes] of spans given as vectors [layers, b, t, d] and masks [b, t]."""
        pooled = []
        for (x, mask), project, attend in zip(spans, self.project, self.attend, strict=True):
            e = project(self.gamma * torch.einsum("l,lbtd->btd", self.mix.softmax(0), x))
            share = attend(e)[..., 0].masked_fill(~mask, -torch.inf).softmax(-1)
            pooled.append((share[..., None] * e).sum(1))
        found: Tensor = self.classify(torch.cat(pooled, dim=-1))
        return found


def _covered(spans: Spans) -> Indices:
    """Rows of the words that some span covers, each once."""
    both = [of for of in (spans.first, spans.second) if of is not None]
    rows = np.concatenate([np.arange(begin, end) for of in both for begin, end in of.tolist()])
    found: Indices = np.unique(rows)
    return found


def _gathered(hidden: Tensor, mean: Tensor, scale: Tensor, spans: Indices) -> tuple[Tensor, Tensor]:
    """Padded vectors of the words of spans [layers, b, t, d] and their mask [b, t]."""
    lengths = spans[:, 1] - spans[:, 0]
    places = spans[:, :1] + np.arange(int(lengths.max()))[None]
    mask = places < spans[:, 1:]
    rows = torch.from_numpy(np.where(mask, places, spans[:, :1]))
    return (hidden[:, rows] - mean[:, None]) / scale[:, None], torch.from_numpy(mask)
