"""Directions of the stream as words: the unembedding, cleaned of what all tokens share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tracemend.circuits.circuit import generator
from tracemend.circuits.tokens import shown
from tracemend.circuits.weights import gain, module_at, unembedding
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel

# Tokens that were hardly ever trained on lie close together, with short rows: of the shortest this share, those with
# so many others within this cosine.
_SHORT, _CLOSE, _OTHERS = 0.05, 0.9, 3
_ROWS = 128


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Rows of the unembedding as the stream meets them, less what is common to all tokens.

    With g the gain of the final norm: rows g ⊙ W_U (of a layer norm less their mean over d), less their mean over the
    vocabulary, less their first principal components, which otherwise draw nearly every direction to the same few rare
    tokens. Tokens that the model hardly saw are never named.

    Rows are kept where the model is; tokens and coherences come back to the CPU.

    Attributes:
        rows: [vocab, d_model].
        used: [vocab].
    """

    rows: Tensor
    used: Tensor

    @classmethod
    def of(cls, model: LanguageModel, *, remove: int = 3) -> Vocabulary:
        """Clean the unembedding of a model.

        Args:
            model: a decoder.
            remove: principal components that are taken away; 0 and no cleaning of the mean is :meth:`raw`.

        Raises:
            CircuitError: ``remove`` is negative or as many as the stream is wide.
        """
        rows = _as_met(model)
        if not 0 <= remove < rows.shape[1]:
            raise CircuitError(f"remove is {remove}; expected 0 to {rows.shape[1] - 1} principal components.")
        rows = rows - rows.mean(0)
        if remove:
            cone = torch.linalg.eigh(rows.T @ rows)[1][:, -remove:]
            rows = rows - (rows @ cone) @ cone.T
        return cls(rows, _used(rows))

    @classmethod
    def raw(cls, model: LanguageModel) -> Vocabulary:
        """The unembedding as it is, every token in it."""
        rows = _as_met(model)
        return cls(rows, torch.ones(len(rows), dtype=torch.bool, device=rows.device))

    def scores(self, vectors: Tensor) -> Tensor:
        """What each direction [n, d_model] adds to the logits, [n, vocab]; unused tokens not a number."""
        found = vectors.to(self.rows) @ self.rows.T
        found[:, ~self.used] = torch.nan
        return found

    def extremes(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens that each direction [n, d_model] raises and lowers most, [n] and [n]."""
        highest, lowest = [], []
        for part in vectors.split(_ROWS):
            scores = self.scores(part)
            highest.append(scores.nan_to_num(nan=-torch.inf).argmax(-1))
            lowest.append(scores.nan_to_num(nan=torch.inf).argmin(-1))
        return torch.cat(highest).cpu(), torch.cat(lowest).cpu()

    def concepts(self, vectors: Tensor, top: int) -> Tensor:
        """The ``top`` tokens whose rows point most in each direction (by cosine), [n, top]."""
        unit = torch.nn.functional.normalize(self.rows, dim=-1)
        found = []
        for part in vectors.split(_ROWS):
            scores = part.to(unit) @ unit.T
            scores[:, ~self.used] = -torch.inf
            found.append(scores.topk(top, dim=-1).indices)
        return torch.cat(found).cpu()

    def coherence(self, tokens: Tensor) -> Tensor:
        """Mean cosine between the rows of the tokens [n, top] of each concept, [n]."""
        unit = torch.nn.functional.normalize(self.rows[tokens], dim=-1)
        top = tokens.shape[1]
        return (((unit.sum(1) ** 2).sum(-1) - top) / (top * (top - 1))).cpu()


def like(vectors: Tensor, count: int, seed: int) -> Tensor:
    """Random vectors with the mean and covariance of these [n, d], [count, d]."""
    mean = vectors.mean(0)
    mixed = torch.randn((count, len(vectors)), generator=generator(seed)).to(vectors)
    found: Tensor = mean + mixed @ (vectors - mean) / len(vectors) ** 0.5
    return found


def words(model: LanguageModel, tokens: Tensor) -> str:
    """Tokens as a person reads them, one after the other."""
    return " | ".join(shown(model, int(token)).replace("\n", "⏎").strip(" ") or "␣" for token in tokens)


def _as_met(model: LanguageModel) -> Tensor:
    norm = module_at(model, "ln_final.hook_normalized")
    rows = unembedding(model).float() * gain(norm)
    # A layer norm takes the mean over the stream away before.
    return rows - rows.mean(-1, keepdim=True) if isinstance(norm, torch.nn.LayerNorm) else rows


def _used(rows: Tensor) -> Tensor:
    length = rows.norm(dim=-1)
    short = length.argsort()[: max(1, round(_SHORT * len(rows)))]
    unit = torch.nn.functional.normalize(rows[short], dim=-1)
    others = (unit @ unit.T > _CLOSE).sum(-1) - 1
    used = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    used[short[others >= _OTHERS]] = False
    return used
