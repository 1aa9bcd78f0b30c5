"""What each attention head looks at, from word to word."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracemend.models import LanguageModel, align
from tracemend.models.attention import read_attention
from tracemend.models.representations import padded
from tracemend.progress import Progress


def word_attention(
    model: LanguageModel,
    sentences: Sequence[Sequence[str]],
    *,
    batch_size: int = 16,
    progress: Progress = Progress(),
) -> list[Tensor]:
    """Attention from word to word of every head (Clark et al. 2019, arXiv 1906.04341, section 4.1).

    What goes to a word of several tokens is the sum over them, what comes from it the mean; special tokens are left
    out, so that rows sum to 1 less what goes there. Of an encoder-decoder the encoder is read.

    Args:
        model: loaded with patterns (``attention="eager"``).
        sentences: words of each.
        batch_size: sentences of a forward pass.

    Returns:
        Of each sentence [heads of all layers, t, t], layer after layer: row i is what word i attends to.

    Raises:
        ModelError: no patterns, or a sentence that does not align to tokens.

    Example:
        >>> word_attention(tiny("bert"), [["so", "it", "goes"]])[0].shape      # 2 layers of 4 heads
        torch.Size([8, 3, 3])
    """
    aligned = align(model, sentences)
    order = np.argsort([len(row) for row in aligned.ids], kind="stable")
    found: dict[int, Tensor] = {}
    for begin in progress.track(range(0, len(order), batch_size), task=f"attention of {model.name}"):
        batch = order[begin : begin + batch_size].tolist()
        maps = token_attention(model, [aligned.ids[i] for i in batch])
        for i, of_tokens in zip(batch, maps, strict=True):
            units = torch.from_numpy(aligned.unit[i])
            member = torch.nn.functional.one_hot(units.clamp_min(0), len(sentences[i])).T * (units >= 0)
            of_word = member.float()
            mean = of_word / of_word.sum(1, keepdim=True)
            found[i] = mean @ of_tokens @ of_word.T
    return [found[i] for i in range(len(sentences))]


def token_attention(
    model: LanguageModel, rows: Sequence[Sequence[int]], segments: Sequence[Sequence[int]] | None = None
) -> list[Tensor]:
    """Attention from token to token of each row of ids [heads of all layers, t, t], padding cropped.

    Args:
        model: loaded with patterns (``attention="eager"``).
        rows: token ids of each text.
        segments: to which text of a pair each token belongs, of a model that :func:`takes_segments`; all are of the
            first where none are given.

    Raises:
        ModelError: no patterns.

    Example:
        >>> token_attention(tiny("bert"), [[2, 23, 3, 24, 3]], [[0, 0, 0, 1, 1]])[0].shape
        torch.Size([8, 5, 5])
    """
    ids, mask = padded(model, rows)
    kinds = None
    if segments is not None:
        kinds = torch.zeros_like(ids)
        for at, row in enumerate(segments):
            kinds[at, : len(row)] = torch.tensor(row)
    with torch.no_grad():
        seen = read_attention(model, called(model, ids, mask, kinds)).layers
    layers = [pattern.float().cpu() for pattern in seen]
    return [torch.cat([layer[at, :, : len(row), : len(row)] for layer in layers]) for at, row in enumerate(rows)]


def takes_segments(model: LanguageModel) -> bool:
    """Whether the network embeds to which text of a pair a token belongs, as BERT does; RoBERTa, DistilBERT do not."""
    knows = "token_type_ids" in inspect.signature(model.network.forward).parameters
    return knows and (getattr(model.config, "type_vocab_size", 0) or 0) > 1


def called(model: LanguageModel, ids: Tensor, mask: Tensor, segments: Tensor | None = None) -> Callable[[], Any]:
    """The forward pass over these tokens; an encoder-decoder's decoder is given its start token alone."""
    given = {"input_ids": ids, "attention_mask": mask}
    if segments is not None:
        given["token_type_ids"] = segments
    if model.family == "encoder-decoder":
        start = int(model.config.decoder_start_token_id)
        given["decoder_input_ids"] = torch.full((len(ids), 1), start, device=ids.device)
    return lambda: model.network(**given)


def head_name(number: int, heads: int) -> str:
    """Layer and head, both from 0.

    Example:
        >>> head_name(25, 12)
        '2-1'
    """
    return f"{number // heads}-{number % heads}"
