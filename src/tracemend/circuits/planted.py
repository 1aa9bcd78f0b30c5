"""A small decoder with a circuit of neurons in its weights, to check methods by."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tracemend.circuits.circuit import generator
from tracemend.circuits.sae import SparseAutoencoder
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError, did_you_mean
from tracemend.models import LanguageModel, tiny
from tracemend.models.language_model import fingerprint_of

Kind = Literal["linear", "and", "or"]
# Neurons of the first layer that fire on a property of the token, and the one of the second that reads them.
SOURCES, TARGET = (3, 7), 5
# What all tokens have in common is so much larger than the properties that the norms' scale hardly changes.
_COMMON, _PROPERTY = 10.0, 1.5
# Above what one source writes, below what both do.
_BOTH, _BASIS = 3.1, 3_000_003


def planted(kind: str = "and", *, seed: int = 0) -> tuple[LanguageModel, Texts, dict[str, Any]]:
    """A random GPT-2 of two layers in which a neuron is a linear, AND or OR combination of two earlier ones.

    Each word has each of two properties or not, at random. Neurons 3 and 7 of the first layer fire on one of them,
    neuron 5 of the second reads both: all of it (linear), only what is above one of them (and), or through a norm
    that one of them fills as well as both (or). Every other neuron has random weights, and heads write nothing.

    Args:
        kind: ``linear``, ``and`` or ``or``.
        seed: of weights and texts.

    Returns:
        The model, texts of random words, and what was planted: ``sources`` and ``target`` as (layer, neuron).

    Raises:
        CircuitError: no such kind.
    """
    if kind not in get_args(Kind):
        raise CircuitError(f"the combination {kind!r} is {did_you_mean(kind, get_args(Kind))}")
    random = generator(seed)
    model = tiny("gpt2", seed=seed)
    body: Any = model.network.transformer
    width = model.hidden_size
    # Orthogonal directions that the norms' centring leaves as they are.
    drawn = torch.randn((width, width), generator=random)
    drawn[0] = 1
    f1, f2, g1, g2 = torch.linalg.qr(drawn.T)[0].T[1:5]
    special = torch.stack([torch.full_like(f1, width**-0.5), f1, f2, g1, g2])

    def beside(rows: Tensor) -> Tensor:
        return rows - (rows @ special.T) @ special

    words = len(model.tokenizer)
    there = torch.rand((words, 2), generator=random) < 0.5
    common = torch.nn.functional.normalize(beside(torch.randn((words, width), generator=random)), dim=-1)
    embeddings = _COMMON * common + _PROPERTY * there.float() @ torch.stack([f1, f2])
    strength = {"linear": 0.5, "and": 0.5, "or": 30.0}[kind]
    reading = {"linear": (2.0, 6.0), "and": (8.0, -14.0), "or": (2.0, -4.0)}[kind]
    with torch.no_grad():
        body.wpe.weight.zero_()
        body.wte.weight.copy_(embeddings)
        for block in body.h:
            block.attn.c_proj.weight.zero_()
            block.attn.c_proj.bias.zero_()
        first, second = body.h[0].mlp, body.h[1].mlp
        for neuron, reads, writes in zip(SOURCES, (f1, f2), (g1, g1 if kind == "or" else g2), strict=True):
            first.c_fc.weight[:, neuron] = 10 * reads
            first.c_fc.bias[neuron] = -4.2
            first.c_proj.weight[neuron] = strength * writes
        second.c_fc.weight[:, TARGET] = reading[0] * (g1 if kind == "or" else g1 + g2)
        second.c_fc.bias[TARGET] = reading[1]
    tokens = [i for i in range(words) if model.tokenizer.decode([i]).strip().isalpha()]
    rows = [[tokens[i] for i in torch.randint(len(tokens), (30,), generator=random)] for _ in range(12)]
    texts = Texts.make([{"text": model.tokenizer.decode(row)} for row in rows])
    made = LanguageModel(
        f"planted-{kind}",
        "decoder",
        model.network,
        model.tokenizer,
        model.window,
        fingerprint_of(model.network, tokenizer=model.tokenizer),
    )
    return made, texts, {"sources": [(0, i) for i in SOURCES], "target": (1, TARGET)}


def planted_features(model: LanguageModel) -> tuple[SparseAutoencoder, SparseAutoencoder]:
    """Autoencoders of the stream after the first block of a planted model, and in the middle of the second.

    The earlier one has a feature for each end of 32 orthogonal directions, of which features 0 and 1 are what neurons 3
    and 7 write. Feature 0 of the later one is active where both of these are, feature 1 reads a direction of its own.

    Args:
        model: what :func:`planted` made, of the kind ``linear`` or ``and``.
    """
    body: Any = model.network.transformer
    written = body.h[0].mlp.c_proj.weight.detach()[list(SOURCES)]
    width = written.shape[1]
    basis = torch.cat([written, torch.randn((width - 2, width), generator=generator(_BASIS))])
    rows = torch.linalg.qr(basis.T)[0].T
    # The sign of what QR returns is arbitrary.
    rows = rows * (rows @ basis.T).diagonal().sign()[:, None]
    dictionary, nothing = torch.cat([rows, -rows]), torch.zeros(width)
    names = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_mid")
    lower = SparseAutoencoder("l1", dictionary.T, torch.zeros(2 * width), dictionary, nothing, site=names[0])
    reading = torch.stack([rows[0] + rows[1], rows[2]])
    bias = torch.tensor([-_BOTH, 0.0])
    return lower, SparseAutoencoder("l1", reading.T, bias, reading, nothing, site=names[1])
