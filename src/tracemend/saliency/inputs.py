"""What a classifier makes of embedded texts: the function whose gradient is taken, and what stands for no word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from tracemend.errors import ModelError, TraceError, did_you_mean
from tracemend.models import LanguageModel
from tracemend.saliency.words import Example
from tracemend.tuning import TextClassifier

Output = Literal["log-odds", "logit", "probability"]
Absent = Literal["auto", "mask", "pad", "zero"]

# Logits from embeddings and from token ids may differ by this share of the largest of them.
_SAME = 1e-3


@dataclass(frozen=True, eq=False)
class Batch:
    """Texts of about the same length, embedded.

    Attributes:
        at: their places among the examples.
        examples: the texts.
        ids: token ids [batch, seq].
        mask: 1 for a token, 0 for padding [batch, seq].
        of_text: whether a token is of the user's text [batch, seq].
        embedded: rows of the model's embedding table [batch, seq, D].
        targets: class indices [batch].
    """

    at: Sequence[int]
    examples: Sequence[Example]
    ids: Tensor
    mask: Tensor
    of_text: Tensor
    embedded: Tensor
    targets: Tensor


def output_of(logits: Tensor, targets: Tensor, output: Output) -> Tensor:
    r"""The number that attributions are of [batch], from logits over the labels [batch, C] and target classes [batch].

    ``log-odds``: :math:`\log p_y / (1 - p_y)`, which with two labels is the difference of their logits. It does not
    saturate as a probability does, nor move when all logits rise together, as those of words do.
    """
    own = logits.gather(1, targets[:, None])[:, 0]
    if output == "logit":
        return own
    if output == "probability":
        return logits.softmax(dim=1).gather(1, targets[:, None])[:, 0]
    others = logits.scatter(1, targets[:, None], -torch.inf)
    return own - others.logsumexp(dim=1)


def score(classifier: TextClassifier, embedded: Tensor, mask: Tensor, targets: Tensor, output: Output) -> Tensor:
    """The output of embedded texts [batch], with autograd to ``embedded`` [batch, seq, D]."""
    logits = classifier.logits({"inputs_embeds": embedded, "attention_mask": mask})
    return output_of(logits, targets, output)


def batches(
    classifier: TextClassifier, examples: Sequence[Example], targets: Sequence[int], size: int
) -> Iterator[Batch]:
    """The examples in batches of near-equal length, embedded."""
    rows = [example.ids for example in examples]
    for part in classifier.buckets(rows, size):
        some = [examples[i] for i in part]
        given = classifier.batch([rows[i] for i in part])
        ids, mask = given["input_ids"], given["attention_mask"]
        of_text = torch.zeros(ids.shape, dtype=torch.bool)
        for i, example in enumerate(some):
            of_text[i, : len(example.ids)] = torch.from_numpy(example.of_text)
        with torch.no_grad():
            embedded = embedding(classifier.language_model)(ids).detach()
        classes = torch.tensor([targets[i] for i in part], device=ids.device)
        yield Batch(part.tolist(), some, ids, mask, of_text.to(ids.device), embedded, classes)


def embedding(model: LanguageModel) -> Any:
    """The module that makes vectors of token ids (of an encoder-decoder, the encoder's)."""
    return model.network.get_input_embeddings()


def absent_token(model: LanguageModel, absent: Absent) -> tuple[str, int | None]:
    """What stands for a word that is not there: its name, and its token; the token of ``zero`` is None.

    ``auto`` is the mask token where the tokenizer has one, else the pad token.

    Raises:
        TraceError: no such choice, or the tokenizer has no mask token.
    """
    if absent not in get_args(Absent):
        raise TraceError(f"{absent!r} is {did_you_mean(absent, get_args(Absent))}")
    tokenizer = model.tokenizer
    if absent == "auto":
        absent = "pad" if tokenizer.mask_token_id is None else "mask"
    if absent == "mask" and tokenizer.mask_token_id is None:
        raise TraceError(f"the tokenizer of {model.name} has no mask token; use pad or zero.")
    token = {"mask": tokenizer.mask_token_id, "pad": tokenizer.pad_token_id, "zero": None}[absent]
    return absent, token


def baseline(classifier: TextClassifier, batch: Batch, absent: Absent) -> Tensor:
    """The same batch without its texts [batch, seq, D]: prompts and special tokens stay, the text is absent."""
    _, token = absent_token(classifier.language_model, absent)
    if token is None:
        empty = torch.zeros_like(batch.embedded[0, 0])
    else:
        with torch.no_grad():
            empty = embedding(classifier.language_model)(torch.tensor([token], device=batch.ids.device))[0].detach()
    return torch.where(batch.of_text[..., None], empty, batch.embedded)


def per_example(batch: Batch, tokens: Tensor) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """One array of token weights an example, without padding, from [batch, seq]."""
    whole = tokens.detach().double().cpu().numpy()
    return [whole[i, : len(example.ids)] for i, example in enumerate(batch.examples)]


def check_embedded(classifier: TextClassifier, batch: Batch) -> None:
    """See that the model makes the same of embeddings as of the tokens they stand for.

    Raises:
        ModelError: it does not.
    """
    with torch.no_grad():
        found = classifier.logits({"inputs_embeds": batch.embedded, "attention_mask": batch.mask})
        expected = classifier.logits({"input_ids": batch.ids, "attention_mask": batch.mask})
    gap, largest = float((found - expected).abs().max()), float(expected.abs().max())
    if gap > _SAME * max(1.0, largest):
        raise ModelError(
            f"the model's logits differ by {gap:.2g} when it is given embeddings in place of token ids, so gradients "
            "of embeddings would be of another function; use saliency.occlusion."
        )
