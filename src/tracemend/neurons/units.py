"""What units of a site do on words: a vector a word, standardised, and which units are dead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracemend.arrays import Indices
from tracemend.errors import NeuronError
from tracemend.models import LanguageModel, align, capture
from tracemend.models.representations import Pooling, padded
from tracemend.models.sites import site
from tracemend.neurons.words import PARTS, Property
from tracemend.progress import Progress

# In the site's own units; below it a unit says nothing that float32 could tell from rounding.
_DEAD = 1e-6
_BATCH = 32


@dataclass(frozen=True, eq=False)
class Units:
    """Activations of the units of a site on words, standardised on the training part.

    Attributes:
        x: by part, [n, d] float32; a dead unit's column is zero.
        alive: the units that vary over the training words.
        dead: the others, which no ranking takes.
        mean: of each unit on the training words [d].
        scale: its standard deviation there [d].
    """

    x: dict[str, Tensor]
    alive: Indices
    dead: Indices
    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, raw: dict[str, Tensor]) -> Units:
        """Standardise activations [n, d] of each part by those of ``train``.

        Raises:
            NeuronError: an activation that is not finite, or fewer than two units that vary.
        """
        train = raw["train"].float()
        if not all(bool(of.isfinite().all()) for of in raw.values()):
            raise NeuronError("some activations are not finite; the model has diverged, or the site overflows.")
        mean, scale = train.mean(0), train.std(0, correction=0)
        varies = scale > _DEAD
        if int(varies.sum()) < 2:
            raise NeuronError(
                f"{int(varies.sum())} of {len(varies)} units vary over the training words; there is nothing to rank. "
                "Take another site, or more words."
            )
        inverse = torch.where(varies, 1 / scale.clamp_min(_DEAD), 0.0)
        x = {part: (of.float() - mean) * inverse for part, of in raw.items()}
        alive = np.flatnonzero(varies.numpy())
        return cls(x, alive, np.flatnonzero(~varies.numpy()), mean, scale)

    @property
    def width(self) -> int:
        """How many units the site has."""
        return int(self.mean.shape[0])


@torch.no_grad()
def activations(
    model: LanguageModel, words: Property, name: str, *, pooling: Pooling = "mean", progress: Progress = Progress()
) -> dict[str, Tensor]:
    """Activations of a site on the words of a property.

    Args:
        model: of an encoder-decoder the encoder is read.
        words: what is read.
        name: of the site; heads are units side by side (``hook_z``: unit ``head * d_head + i``).
        pooling: of a word's tokens.
        progress: shown.

    Returns:
        By part, [n, units], float32 on the CPU.

    Raises:
        ModelError: no such site, or a sentence that does not fit the window or align to tokens.
        NeuronError: the site holds no vector a token (attention patterns).
    """
    sentences = [sentence for part in PARTS for sentence in words.parts[part].sentences]
    found = vectors(model, sentences, name, pooling=pooling, progress=progress)
    result, first = {}, 0
    for part in PARTS:
        of = words.parts[part]
        starts = np.cumsum([0, *(len(sentence) for sentence in of.sentences)])
        rows = torch.from_numpy(starts[of.sentence] + of.word)
        result[part] = torch.cat(found[first : first + len(of.sentences)])[rows].clone()
        first += len(of.sentences)
    return result


@torch.no_grad()
def vectors(
    model: LanguageModel,
    sentences: Sequence[Sequence[str]],
    name: str,
    *,
    pooling: Pooling = "mean",
    progress: Progress = Progress(),
) -> list[Tensor]:
    """Activations of a site on every word of each sentence [words, units], float32 on the CPU.

    Raises:
        ModelError: no such site, or a sentence that does not fit the window or align to tokens.
        NeuronError: see :func:`check_site`.
    """
    check_site(model, name)
    aligned = align(model, sentences, pooling=pooling)
    order = np.argsort([len(row) for row in aligned.ids], kind="stable")
    batches = [order[i : i + _BATCH] for i in range(0, len(order), _BATCH)]
    found: list[Tensor] = [torch.empty(0)] * len(sentences)
    for batch in progress.track(batches, task=f"read {model.name}"):
        ids, mask = padded(model, [aligned.ids[i] for i in batch])
        with capture(model, [name]) as seen:
            reading(model)(input_ids=ids, attention_mask=mask)
        whole = seen[name].flatten(2).float().cpu()
        for at, i in enumerate(batch.tolist()):
            unit = torch.from_numpy(aligned.unit[i])
            found[i] = pooled(whole[at, : len(unit)], unit, pooling)
    return found


def check_site(model: LanguageModel | torch.nn.Module, name: str) -> None:
    """Refuse a site that holds no vector a token that is read.

    Raises:
        ModelError: no such site.
        NeuronError: attention patterns, or a site of an encoder-decoder's decoder.
    """
    if "query" in site(model, name).shape or name.startswith("decoder."):
        raise NeuronError(
            f"{name} has no vector for each word read; take a stream (blocks.1.hook_resid_post), the neurons of an MLP "
            "(blocks.1.mlp.hook_post) or heads (blocks.1.attn.hook_z) of the encoder or decoder-only network."
        )


def check_units(units: Sequence[int], width: int, name: str = "the site") -> None:
    """Refuse units that are named twice, or that the site lacks.

    Args:
        units: as they were given.
        width: units of the site.
        name: of the site.

    Raises:
        NeuronError: one of them is out of range, or named twice.
    """
    for place, unit in enumerate(units):
        if not 0 <= unit < width:
            raise NeuronError(f"unit {unit} is out of range: {name} has {width}, 0 to {width - 1}.")
        if unit in units[:place]:
            raise NeuronError(f"unit {unit} is named twice, and would count twice in every mean; name it once.")


def reading(model: LanguageModel) -> Any:
    """The part of a network that reads: of an encoder-decoder the encoder, without any head."""
    return model.network.get_encoder() if model.family == "encoder-decoder" else model.network.base_model


def pooled(tokens: Tensor, unit: Tensor, pooling: Pooling) -> Tensor:
    """Vectors of the words of one sentence [words, units], of its tokens [pos, units] and the word of each [pos]."""
    at = (unit >= 0).nonzero()[:, 0]
    if pooling != "mean":
        # A word's tokens follow one another, so it changes where a word begins or ends.
        none = unit.new_full((1,), -1)
        of = unit[at]
        change = torch.diff(of, prepend=none) if pooling == "first" else torch.diff(of, append=none)
        at = at[change != 0]
    into = unit[at]
    made = torch.zeros(int(into.max()) + 1, tokens.shape[1]).index_add_(0, into, tokens[at])
    return made / torch.bincount(into)[:, None]
