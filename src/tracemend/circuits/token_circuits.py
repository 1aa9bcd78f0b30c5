"""What attention does to tokens, from the weights alone: which token looks at which, and what it says then."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tracemend.circuits.circuit import heads_of, layers_of
from tracemend.circuits.weights import FrozenNorm, embedding, gain, module_at, unembedding, writes
from tracemend.models import LanguageModel, capture, site
from tracemend.models.sites import trunk


class TokenCircuits:
    """QK and OV circuits of one layer and the bigram table, for chosen tokens, along the direct path.

    The stream is taken to be the embedding of the token alone. In the first layer this is what the heads read where
    positions are not added to it; in later ones, and beside feed-forward layers, it is one path of many.

    Args:
        model: a decoder.
        layer: whose heads.
        tokens: rows and columns of the tables, [n].
        scale: 1 / σ of the final norm, a number: the tables are in logits at this scale.
    """

    def __init__(self, model: LanguageModel, layer: int, tokens: Tensor, scale: float) -> None:
        self.model, self.layer, self.tokens, self.scale = model, layer, tokens, scale
        self.queries, self.keys = self.read(tokens, "q"), self.read(tokens, "k")
        values = torch.einsum("hnd,hdm->hnm", self.read(tokens, "v"), writes(model, layer))
        self.outputs = self._logits(values)

    @torch.no_grad()
    def read(self, tokens: Tensor, part: str) -> Tensor:
        """Queries, keys or values of tokens, [heads, n, d_head]; of grouped queries each key-value head repeated."""
        where = site(self.model, f"blocks.{self.layer}.attn.hook_{part}")
        norm = module_at(self.model, f"blocks.{self.layer}.ln1.hook_normalized")
        found = where.read(module_at(self.model, where.name)(norm(embedding(self.model)[tokens]))).permute(1, 0, 2)
        return found.repeat_interleave(heads_of(self.model) // len(found), dim=0)

    def bigrams(self) -> Tensor:
        """Logits of the next token by the embedding of this one alone, W_E W_U, [n, n]."""
        return self._logits(embedding(self.model)[self.tokens])

    def ov(self, head: int) -> Tensor:
        """W_E W_V W_O W_U: what attending to the token of the row does to the logit of the column, [n, n]."""
        return self.outputs[head]

    def qk(self, head: int, distances: Tensor) -> Tensor:
        """W_E W_Q R W_Kᵀ W_Eᵀ / √d_head: score that the row gives to the column, the mean over distances, [n, n]."""
        return rotated(self.model, self.layer, self.queries[head], distances).mean(0) @ self.keys[head].T

    def by_distance(self, head: int, distances: Tensor, weights: Tensor) -> tuple[Tensor, float]:
        """Mean score of each distance [distances], and the share of the scores' variance that is due to the distance.

        Args:
            head: which.
            distances: from the token that looks to the one looked at, 1 and more.
            weights: how frequent each token is, [n], with the sum 1.
        """
        queries, keys = rotated(self.model, self.layer, self.queries[head], distances), self.keys[head]
        middle = weights @ keys
        spread = (keys - middle).T @ ((keys - middle) * weights[:, None])
        means = queries @ middle
        between = means.var(0, correction=0) @ weights
        within = (torch.einsum("snd,de,sne->sn", queries, spread, queries) @ weights).mean()
        return means @ weights, float(between / (between + within).clamp_min(1e-12))

    def _logits(self, stream: Tensor) -> Tensor:
        norm = module_at(self.model, "ln_final.hook_normalized")
        if isinstance(norm, torch.nn.LayerNorm):
            stream = stream - stream.mean(-1, keepdim=True)
        found: Tensor = (stream * gain(norm) * self.scale) @ unembedding(self.model)[self.tokens].T
        return found


def rotated(model: LanguageModel, layer: int, queries: Tensor, distances: Tensor) -> Tensor:
    """Queries [n, d_head] as keys so far before them see them, scaled as scores are, [distances, n, d_head].

    Where the model has no rotation by position they are the same at every distance.
    """
    attention: Any = module_at(model, f"blocks.{layer}.attn.hook_pattern")
    scaling = float(getattr(attention, "scaling", None) or queries.shape[-1] ** -0.5)
    turned = queries.expand(len(distances), *queries.shape)
    rotary: Any = getattr(trunk(model), "rotary_emb", None)
    # Some architectures leave the rotation out in some layers (SmolLM3).
    if rotary is None or not getattr(attention, "use_rope", True):
        return turned * scaling
    cos, sin = (each[0][:, None] for each in rotary(queries, distances[None].to(queries.device)))
    size = cos.shape[-1]
    # The table of the rotation holds its scale once for queries; keys have it as well.
    still = float(rotary(queries, torch.zeros_like(distances[None, :1]).to(queries.device))[0].max())
    whole, rest = turned[..., :size], turned[..., size:]
    half = torch.cat([-whole[..., size // 2 :], whole[..., : size // 2]], dim=-1)
    return torch.cat([(whole * cos + half * sin) * still, rest], dim=-1) * scaling


def has_rotation(model: LanguageModel) -> bool:
    """Whether positions enter by rotation of queries and keys."""
    return getattr(trunk(model), "rotary_emb", None) is not None


@torch.no_grad()
def compare(model: LanguageModel, layer: int, ids: Tensor) -> tuple[float, float]:
    """How far attention patterns predicted by tokens alone are from the model's own, and 1 / σ of its final norm.

    Args:
        model: a decoder with eager attention.
        layer: whose heads.
        ids: of one text, [1, pos].

    Returns:
        Total variation distance (0 to 1), the mean over heads and positions; the mean of 1 / σ over positions.
    """
    last = f"blocks.{layers_of(model) - 1}.hook_resid_post"
    name = f"blocks.{layer}.attn.hook_pattern"
    with capture(model, [name, last]) as seen:
        model.network(ids, use_cache=False)
    circuits = TokenCircuits(model, layer, ids[0], 1.0)
    distances = torch.arange(ids.shape[1])
    scores = torch.full(seen[name].shape[1:], -torch.inf)
    for head in range(len(scores)):
        by_distance = rotated(model, layer, circuits.queries[head], distances) @ circuits.keys[head].T
        for distance in range(ids.shape[1]):
            at = torch.arange(distance, ids.shape[1])
            scores[head, at, at - distance] = by_distance[distance, at, at - distance].cpu()
    gap = (scores.softmax(-1) - seen[name][0].cpu()).abs().sum(-1).mean() / 2
    norm = FrozenNorm.at(module_at(model, "ln_final.hook_normalized"), seen[last])
    return float(gap), float(norm.inverse.mean())
