"""Induction heads: which heads continue a text that was said before, and whether the model needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracemend.circuits.circuit import Circuit, generator, heads_of, layers_of
from tracemend.circuits.composition import Head, Kind, composition, has_query_norms, random_composition
from tracemend.circuits.repeats import Repeats
from tracemend.circuits.weights import copying, unembedding
from tracemend.errors import CircuitError
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel, capture, edit, tiny
from tracemend.models.edits import replace
from tracemend.progress import Progress

# A head is counted as one of a kind above this mean attention.
_MARK = 0.3
_READERS = 5
_BATCH = 4
_KINDS: tuple[Kind, ...] = ("q", "k", "v")
SCORES = ("induction", "previous", "duplicate", "first")


@dataclass(frozen=True, kw_only=True)
class InductionResult(MethodResult):
    """Scores by head, the best induction head first.

    The table has a row a head: ``layer``, ``head``, the scores ``induction``, ``previous``, ``duplicate`` and ``first``
    (mean attention, 0 to 1), ``copying`` (-1 to 1), and ``induction_plain``, the induction score where nothing is said
    twice.
    """

    def figure(self) -> Any:
        """Induction and previous-token scores as maps over layers and heads."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 5), layout="constrained")
        for axes, name in zip(figure.subplots(2, 1, sharex=True), ("induction", "previous"), strict=True):
            grid = self.rows.pivot(index="head", columns="layer", values=name).to_numpy(dtype=float)
            figure.colorbar(axes.imshow(grid, cmap="viridis", vmin=0, vmax=1, aspect="auto"), ax=axes)
            axes.set(ylabel="head", title=name)
        axes.set(xlabel="layer")
        return figure


@dataclass(frozen=True, kw_only=True)
class Induction(Circuit[InductionResult]):
    """Induction, previous-token and duplicate-token heads, their composition, and what their loss costs.

    Random tokens t_1 ... t_r are read twice. From a token of the second copy (position i) the scores are the mean
    attention

    - induction (prefix matching): to i - r + 1, the token that came after it the first time;
    - duplicate: to i - r, the token itself; first: to the beginning of the text;
    - previous: to i - 1, over the whole text.

    Copying is Σ Re λ / Σ |λ| over the eigenvalues λ of W_E W_V W_O W_U of a head (from the d_head x d_head product with
    the same ones): +1 raises what is attended to, -1 lowers it. Composition: :func:`composition`. The heads with the
    best induction scores are then silenced together (their output is set to its mean over all texts and positions) and
    the loss on the second copy is taken again. Elhage et al. 2021; Olsson et al. 2022, arXiv 2209.11895.

    Metrics: ``loss_first`` and ``loss_repeat`` (nats a token, both copies), ``in_context`` (their difference, below 0:
    the repetition helps), ``best``, ``median`` and ``heads`` (induction scores; heads above 0.3), ``previous_best``,
    ``q_composition``, ``k_composition``, ``v_composition`` (the best previous-token head with those of the five best
    induction heads that are behind it, mean; induction is by K; no Q and K of a model that normalises queries and keys,
    where the weights do not say it), and ``loss_without_N`` (on the second copy, N best heads silenced). Controls, arm
    by arm: ``not repeated`` (the scores where nothing is said twice), ``random heads`` (compositions of random pairs,
    losses without as many other heads), ``random matrices`` (compositions).

    Attributes:
        silence: how many of the best heads are silenced, one number a run; those above half of the heads are left
            out, and the result says so.
        draws: sets of other heads, and pairs of heads a tenth, for the controls.

    Raises:
        CircuitError: not a decoder; ``silence`` out of range, or all above half of the heads.
        ModelError: the model was loaded without attention patterns; load it with ``attention="eager"``.

    Example:
        >>> model = load("smollm2")
        >>> Induction().run(model, Repeats.draw(model)).table().head(8)
    """

    name: ClassVar[str] = "circuits.induction"
    inputs: ClassVar[str] = "Repeats"

    silence: tuple[int, ...] = (1, 3, 5, 10, 20)
    draws: int = 3

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> InductionResult:
        """Score every head and silence the best ones.

        Args:
            model: a decoder.
            data: :class:`Repeats`, drawn for this model.
            progress: shows the texts, then the losses.

        Raises:
            CircuitError: see the class.
        """
        network = self.decoder(model)
        if not isinstance(data, Repeats):
            raise CircuitError(
                f"{self.name} takes Repeats, not {type(data).__name__}; draw them: Repeats.draw(model, length=25)."
            )
        layers, heads = layers_of(network), heads_of(network)
        silence = tuple(n for n in self.silence if n <= layers * heads // 2)
        if not silence or min(silence) < 1 or self.draws < 1:
            raise CircuitError(
                f"silence is {self.silence} and draws {self.draws}; expected numbers of heads from 1 to "
                f"{layers * heads // 2} (half of all) and at least 1 draw."
            )
        size, tokens = min(_BATCH, len(data.ids)), data.ids.shape[1]
        self.announce(
            size * layers * (heads * tokens**2 + tokens * network.hidden_size)
            + size * tokens * len(unembedding(network)),
            "draw shorter repeats",
        )
        batches = [(a, b) for a, b in zip(data.ids.split(_BATCH), data.plain.split(_BATCH), strict=True)]
        found, plain, means, losses = _Sum(), _Sum(), _Sum(), _Sum()
        for ids, other in progress.track(batches, task="attention"):
            scores, z, loss = _looked(network, ids, data)
            for total, value in ((found, scores), (means, z), (losses, loss)):
                total.add(value, len(ids))
            plain.add(_looked(network, other, data)[0], len(other))
        rows = _rows(found.mean, plain.mean, copying(network))
        order = _named(rows)
        first, second = losses.mean.tolist()
        metrics = {
            "loss_first": first,
            "loss_repeat": second,
            "in_context": second - first,
            "best": float(rows["induction"].max()),
            "median": float(rows["induction"].median()),
            "heads": float((rows["induction"] > _MARK).sum()),
            "previous_best": float(rows["previous"].max()),
        }
        unrepeated = {
            "best": float(rows["induction_plain"].max()),
            "median": float(rows["induction_plain"].median()),
            "heads": float((rows["induction_plain"] > _MARK).sum()),
        }
        composed, chance, matrices = self._composed(network, rows, order)
        without, others = self._silenced(network, data, silence, order, means.mean, progress)
        return InductionResult(
            metrics=metrics | composed | without,
            controls={
                "not repeated": unrepeated,
                "random heads": {**chance, **others},
                "random matrices": matrices,
            },
            config=self.config,
            rows=rows,
            findings=_findings(network, data, [n for n in self.silence if n not in silence]),
        )

    def _composed(
        self, model: LanguageModel, rows: pd.DataFrame, order: list[Head]
    ) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
        """Each kind of composition: of the heads found, of random pairs, of random matrices."""
        # The best previous-token head that has one of the best induction heads behind it.
        ranked = _named(rows.sort_values("previous", ascending=False, kind="stable"))
        behind = ([(w, r) for r in order[:_READERS] if w[0] < r[0]] for w in ranked)
        pairs: list[tuple[Head, Head]] = next((found for found in behind if found), [])
        found: dict[str, float] = {}
        chance: dict[str, float] = {}
        matrices: dict[str, float] = {}
        for kind in _KINDS:
            name = f"{kind}_composition"
            if not pairs or (kind != "v" and has_query_norms(model)):
                found[name] = chance[name] = matrices[name] = float("nan")
                continue
            found[name] = float(np.mean([composition(model, *pair, kind) for pair in pairs]))
            # The same pairs of heads for each kind.
            drawn = random_composition(model, pairs=10 * self.draws, kind=kind, random=generator(self.seed))
            chance[name], matrices[name] = (float(each.mean()) for each in drawn)
        return found, chance, matrices

    def _silenced(
        self,
        model: LanguageModel,
        data: Repeats,
        silence: Sequence[int],
        order: list[Head],
        means: Tensor,
        progress: Progress,
    ) -> tuple[dict[str, float], dict[str, float]]:
        random = generator(self.seed + 1)
        others = order[max(silence) :]
        jobs: list[tuple[int, Sequence[Head], bool]] = [(n, order[:n], True) for n in silence]
        for n in silence:
            for _ in range(self.draws):
                chosen = torch.randperm(len(others), generator=random)[:n].tolist()
                jobs.append((n, [others[i] for i in chosen], False))
        best: dict[str, float] = {}
        chance: dict[str, list[float]] = {}
        for n, those, is_best in progress.track(jobs, task="silence"):
            loss = _loss_without(model, data, those, means)
            if is_best:
                best[f"loss_without_{n}"] = loss
            else:
                chance.setdefault(f"loss_without_{n}", []).append(loss)
        return best, {name: float(np.mean(values)) for name, values in chance.items()}

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A tiny decoder and four texts of ten tokens said twice."""
        model = tiny("llama")
        return cls(silence=(1, 2), draws=2), model, Repeats.draw(model, length=10, count=4)


class _Sum:
    """A mean over batches of different sizes."""

    def __init__(self) -> None:
        self.total: Any = 0.0
        self.count = 0

    def add(self, value: Tensor, count: int) -> None:
        self.total = self.total + value.double() * count
        self.count += count

    @property
    def mean(self) -> Tensor:
        return torch.as_tensor(self.total / self.count)


def head_scores(model: LanguageModel, data: Repeats) -> pd.DataFrame:
    """``layer``, ``head`` and the four attention scores of every head, layer by layer; see :class:`Induction`."""
    scores = scores_and_losses(model, data, data.ids)[0]
    layers, heads = scores.shape[1:]
    places = {"layer": np.repeat(np.arange(layers), heads), "head": np.tile(np.arange(heads), layers)}
    return pd.DataFrame({**places, **{name: scores[i].flatten().numpy() for i, name in enumerate(SCORES)}})


def scores_and_losses(model: LanguageModel, data: Repeats, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The four attention scores [4, layers, heads], and the losses on first and second copy [2], nats a token.

    Args:
        model: a decoder.
        data: says where the copies lie.
        ids: ``data.ids``, or ``data.plain`` for the same places of texts that say nothing twice.
    """
    found, losses = _Sum(), _Sum()
    for part in ids.split(_BATCH):
        scores, _, loss = _looked(model, part, data)
        found.add(scores, len(part))
        losses.add(loss, len(part))
    return found.mean, losses.mean


def _looked(model: LanguageModel, ids: Tensor, data: Repeats) -> tuple[Tensor, Tensor, Tensor]:
    """Scores [4, layers, heads], mean z [layers, heads, d_head], losses of both copies [2]."""
    layers, r, start = layers_of(model), data.length, data.start
    names = [f"blocks.{i}.attn.hook_{part}" for i in range(layers) for part in ("pattern", "z")]
    ids = ids.to(model.network.device)
    with capture(model, names) as seen:
        logits = model.network(ids, use_cache=False).logits
    second = torch.arange(start + r, start + 2 * r)
    later = torch.arange(1, start + 2 * r)
    scores, z = [], []
    for i in range(layers):
        pattern = seen.pop(f"blocks.{i}.attn.hook_pattern").mean(0).cpu()
        to = (second - r + 1, second - r, torch.zeros_like(second))
        induction, duplicate, first = (pattern[:, second, key].mean(1) for key in to)
        scores.append(torch.stack([induction, pattern[:, later, later - 1].mean(1), duplicate, first]))
        z.append(seen[f"blocks.{i}.attn.hook_z"].mean((0, 1)))
    return torch.stack(scores, 1), torch.stack(z), _losses(logits, ids, data)


def _losses(logits: Tensor, ids: Tensor, data: Repeats) -> Tensor:
    each = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    # Of the first copy the token after which nothing can be known of it is left out; so is its like in the second.
    r, start = data.length, data.start
    return torch.stack([each[:, start : start + r - 1].mean(), each[:, start + r : start + 2 * r - 1].mean()]).cpu()


def _loss_without(model: LanguageModel, data: Repeats, heads: Sequence[Head], means: Tensor) -> float:
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        by_layer.setdefault(layer, []).append(head)
    edits = {
        f"blocks.{layer}.attn.hook_z": replace(means[layer].to(model.network.device, torch.float32), heads=chosen)
        for layer, chosen in by_layer.items()
    }
    total = _Sum()
    with edit(model, edits):
        for ids in data.ids.to(model.network.device).split(_BATCH):
            total.add(_losses(model.network(ids, use_cache=False).logits, ids, data), len(ids))
    return float(total.mean[1])


def _findings(model: LanguageModel, data: Repeats, left_out: Sequence[int]) -> list[str]:
    found = []
    if left_out:
        found.append(
            f"{', '.join(map(str, left_out))} heads are more than half of the {layers_of(model) * heads_of(model)} of "
            f"{model.name} and were not silenced."
        )
    if not data.start:
        found.append(
            f"{model.name} has no token that begins a text: the first random token draws the attention that heads at "
            "rest give to the beginning, and the scores shift a little."
        )
    if has_query_norms(model):
        found.append(
            f"{model.name} normalises queries and keys: Q- and K-composition are not in its weights alone and are left "
            "out."
        )
    return found


def _named(rows: pd.DataFrame) -> list[Head]:
    return list(zip(rows["layer"].astype(int).tolist(), rows["head"].astype(int).tolist(), strict=True))


def _rows(scores: Tensor, plain: Tensor, copying: Tensor) -> pd.DataFrame:
    layers, heads = copying.shape
    columns: dict[str, Any] = {
        "layer": np.repeat(np.arange(layers), heads),
        "head": np.tile(np.arange(heads), layers),
        **{name: scores[i].flatten().numpy() for i, name in enumerate(SCORES)},
        "copying": copying.double().flatten().numpy(),
        "induction_plain": plain[0].flatten().numpy(),
    }
    return pd.DataFrame(columns).sort_values("induction", ascending=False, kind="stable", ignore_index=True)
