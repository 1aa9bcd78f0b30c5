"""A decoder as a graph: what each part writes, what each part reads, and a run in which only some edges carry news."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tracemend.circuits.circuit import heads_of, layers_of
from tracemend.circuits.weights import matrix, module_at, writes
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel, Replay, capture, edit, site
from tracemend.models.hooks import Edit
from tracemend.models.sites import sites

PARTS = ("q", "k", "v")


@dataclass(frozen=True)
class Reader:
    """What reads the stream: a head's query, key or value, an MLP, or the logits.

    Attributes:
        part: ``q``, ``k``, ``v``, ``mlp`` or ``logits``.
        layer: of it; the number of layers for the logits.
        head: of q, k and v (of grouped queries the key-value head), else -1.
        sources: how many writers are before it.
    """

    part: str
    layer: int
    head: int
    sources: int

    @property
    def name(self) -> str:
        """``L3H2.q``, ``L3.mlp``, ``logits``."""
        if self.part == "logits":
            return "logits"
        return f"L{self.layer}.mlp" if self.part == "mlp" else f"L{self.layer}H{self.head}.{self.part}"


class Wiring:
    """Writers and readers of a decoder, in the order in which they come.

    Args:
        model: a decoder.

    Attributes:
        writers: their names: ``embedding``, ``L0H0`` ..., ``L0.mlp`` ...
        readers: see :class:`Reader`.
        valid: whether there is an edge, [readers, writers].
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.layers, self.heads = model, layers_of(model), heads_of(model)
        names = {s.name for s in sites(model)}
        # Where attention and MLP read side by side, the MLP does not see the heads of its own layer.
        self.side_by_side = "blocks.0.hook_resid_mid" not in names
        self.writers = ["embedding"]
        self.readers: list[Reader] = []
        for layer in range(self.layers):
            before = len(self.writers)
            for part in PARTS:
                count = site(model, f"blocks.{layer}.attn.hook_{part}").heads or self.heads
                self.readers += [Reader(part, layer, head, before) for head in range(count)]
            self.writers += [f"L{layer}H{head}" for head in range(self.heads)]
            self.readers.append(Reader("mlp", layer, -1, before if self.side_by_side else len(self.writers)))
            self.writers.append(f"L{layer}.mlp")
        self.readers.append(Reader("logits", self.layers, -1, len(self.writers)))
        counts = torch.tensor([reader.sources for reader in self.readers])
        self.valid = torch.arange(len(self.writers))[None] < counts[:, None]

    @property
    def edges(self) -> int:
        """How many there are."""
        return int(self.valid.sum())

    def rows(self, layer: int, part: str) -> list[int]:
        """Numbers of the readers of one part of a layer."""
        return [i for i, reader in enumerate(self.readers) if reader.layer == layer and reader.part == part]

    @torch.no_grad()
    def contributions(self, clean: Replay) -> Tensor:
        """What every writer adds to the stream, [writers, pos, d_model]."""
        run = _Run(self, clean, None, None)
        run.logits()
        return run.written

    @torch.no_grad()
    def run(self, clean: Replay, corrupted: Tensor, kept: Tensor) -> Tensor:
        """Logits of the last position [vocab] where each edge outside ``kept`` carries what it does on another run.

        Args:
            clean: of the text that is run.
            corrupted: contributions on the other one, [writers, pos, d_model].
            kept: which edges carry what they do now, [readers, writers].

        Raises:
            CircuitError: shapes that do not fit.
        """
        if kept.shape != self.valid.shape or corrupted.shape[1] != clean.streams[0].shape[1]:
            raise CircuitError(
                f"kept is {tuple(kept.shape)} and the other run {tuple(corrupted.shape)}; expected "
                f"{tuple(self.valid.shape)} and texts of one length."
            )
        return _Run(self, clean, corrupted, ~kept & self.valid).logits()


class _Run:
    """One pass through the blocks, in which readers are given inputs of their own."""

    def __init__(self, wiring: Wiring, clean: Replay, corrupted: Tensor | None, cut: Tensor | None) -> None:
        self.wiring, self.clean, self.corrupted, self.cut = wiring, clean, corrupted, cut
        self.stream = clean.streams[0]
        self.written = torch.zeros((len(wiring.writers), *self.stream.shape[1:]))
        self.written[0] = self.stream[0]

    def logits(self) -> Tensor:
        wiring = self.wiring
        for layer in range(wiring.layers):
            edits = self._reading(layer) | self._noting(layer)
            with edit(wiring.model, edits):
                self.stream = self.clean.run_blocks(layer, self.stream, until=layer + 1)
        final = self._inputs([len(wiring.readers) - 1], self.stream[0])
        return self.clean.logits_of(final)[0]

    def _inputs(self, rows: list[int], stream: Tensor) -> Tensor:
        """What these readers read, [readers, pos, d_model]."""
        if self.corrupted is None or self.cut is None:
            return stream[None].expand(len(rows), *stream.shape)
        count = self.wiring.readers[rows[0]].sources
        news = (self.corrupted[:count] - self.written[:count]).flatten(1).to(stream.device)
        return stream + (self.cut[rows, :count].to(news) @ news).view(len(rows), *stream.shape)

    def _reading(self, layer: int) -> dict[str, Edit]:
        if self.corrupted is None:
            return {}
        model, edits = self.wiring.model, dict[str, Edit]()
        norm = module_at(model, f"blocks.{layer}.ln1.hook_normalized")
        for part in PARTS:
            where = site(model, f"blocks.{layer}.attn.hook_{part}")
            read = where.read(
                module_at(model, where.name)(norm(self._inputs(self.wiring.rows(layer, part), self.stream[0])))
            )
            # Of each reader's own input its own head: [readers, pos, heads, d_head] -> [1, pos, heads, d_head].
            own = torch.stack([read[head, :, head] for head in range(len(read))], dim=1)[None]
            edits[where.name] = _put(own)
        return edits

    def _noting(self, layer: int) -> dict[str, Edit]:
        wiring, model = self.wiring, self.wiring.model
        first = wiring.readers[wiring.rows(layer, "q")[0]].sources
        attended: list[Tensor] = []

        def heads(z: Tensor) -> Tensor:
            by_head = torch.einsum("phd,hdm->hpm", z[0], writes(model, layer))
            self.written[first : first + wiring.heads] = by_head
            return z

        def attention(out: Tensor) -> Tensor:
            attended.append(out)
            return out

        def mlp_input(old: Tensor) -> Tensor:
            if self.corrupted is None:
                return old
            middle = self.stream[0] if wiring.side_by_side else self.stream[0] + attended[0][0]
            norm = module_at(model, f"blocks.{layer}.ln2.hook_normalized")
            # The norm's own hook is running: its plain function is called.
            read: Tensor = type(norm).forward(norm, self._inputs(wiring.rows(layer, "mlp"), middle))
            return read

        def mlp(out: Tensor) -> Tensor:
            self.written[first + wiring.heads] = out[0]
            return out

        return {
            f"blocks.{layer}.attn.hook_z": heads,
            f"blocks.{layer}.hook_attn_out": attention,
            f"blocks.{layer}.ln2.hook_normalized": mlp_input,
            f"blocks.{layer}.hook_mlp_out": mlp,
        }


def edge_scores(wiring: Wiring, ids: tuple[Tensor, Tensor], direction: Tensor, news: Tensor, steps: int) -> Tensor:
    """Edge attribution patching with integrated gradients, [readers, writers].

    The change of the metric that is to be expected when an edge carries the corrupted run's news: the news of its
    writer times the gradient of the metric by its reader's input, the mean over runs whose embeddings lie on the way
    from the corrupted to the clean ones (Syed et al. 2023, arXiv 2310.10348; Hanna et al. 2024, arXiv 2403.17806).

    Args:
        wiring: of the model.
        ids: of the clean and the corrupted text, [1, pos] each.
        direction: of the metric, what the normalised last stream is multiplied with, [d_model].
        news: contributions on the corrupted run less those on the clean one, [writers, pos, d_model].
        steps: runs on the way; 1 is the clean run alone.
    """
    embed = wiring.model.network.get_input_embeddings()
    with torch.no_grad():
        clean, corrupted = (embed(each) for each in ids)
    total = torch.zeros(wiring.valid.shape)
    for step in range(steps):
        share = 1.0 if steps == 1 else (step + 0.5) / steps
        total += _scores_at(wiring, corrupted + share * (clean - corrupted), direction, news)
    return torch.where(wiring.valid, total / steps, 0.0)


def _scores_at(wiring: Wiring, embeds: Tensor, direction: Tensor, news: Tensor) -> Tensor:
    model, found = wiring.model, torch.zeros(wiring.valid.shape)
    names = [f"blocks.{i}.attn.hook_{part}" for i in range(wiring.layers) for part in PARTS]
    names += [f"blocks.{i}.ln2.hook_normalized" for i in range(wiring.layers)] + ["ln_final.hook_normalized"]
    streams = [f"blocks.{i}.hook_resid_pre" for i in range(wiring.layers)]
    if not wiring.side_by_side:
        streams += [f"blocks.{i}.hook_resid_mid" for i in range(wiring.layers)]
    last = f"blocks.{wiring.layers - 1}.hook_resid_post"
    with torch.enable_grad(), capture(model, [*names, *streams, last], grad=True) as seen:
        model.network(inputs_embeds=embeds.clone().requires_grad_(), use_cache=False)
        metric = seen["ln_final.hook_normalized"][0, -1] @ direction
        slopes = dict(zip(names, torch.autograd.grad(metric, [seen[name] for name in names]), strict=True))
    for layer in range(wiring.layers):
        before = seen[f"blocks.{layer}.hook_resid_pre"].detach()[0]
        norm = module_at(model, f"blocks.{layer}.ln1.hook_normalized")
        for part in PARTS:
            where = site(model, f"blocks.{layer}.attn.hook_{part}")
            weight = where.read(matrix(module_at(model, where.name)))
            slope = torch.einsum("phd,mhd->hpm", slopes[where.name][0], weight)
            _fill(wiring, found, wiring.rows(layer, part), _through(norm, before, slope), news)
        middle = before if wiring.side_by_side else seen[f"blocks.{layer}.hook_resid_mid"].detach()[0]
        norm = module_at(model, f"blocks.{layer}.ln2.hook_normalized")
        slope = slopes[f"blocks.{layer}.ln2.hook_normalized"]
        _fill(wiring, found, wiring.rows(layer, "mlp"), _through(norm, middle, slope), news)
    norm = module_at(model, "ln_final.hook_normalized")
    slope = _through(norm, seen[last].detach()[0], slopes["ln_final.hook_normalized"])
    _fill(wiring, found, [len(wiring.readers) - 1], slope, news)
    return found


def _fill(wiring: Wiring, found: Tensor, rows: list[int], slopes: Tensor, news: Tensor) -> None:
    count = wiring.readers[rows[0]].sources
    found[rows, :count] = slopes.flatten(1).cpu() @ news[:count].flatten(1).T


def _through(norm: nn.Module, stream: Tensor, slopes: Tensor) -> Tensor:
    """Gradients by the norm's input [n, pos, d] from those by its output [n, pos, d]."""
    with torch.enable_grad():
        x = stream.expand(slopes.shape).clone().requires_grad_()
        out: Any = norm(x)
        return torch.autograd.grad(out, x, slopes)[0]


def _put(value: Tensor) -> Edit:
    return lambda old: value
