"""What a classifier makes of the vectors of its tokens: the function whose gradient is taken, and absent words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from tracemend.errors import ModelError, TraceError, did_you_mean
from tracemend.models import LanguageModel, capture, edit
from tracemend.saliency.words import Example
from tracemend.tuning import TextClassifier

Output = Literal["log-odds", "logit", "probability"]
Absent = Literal["auto", "mask", "pad", "zero"]
Entry = Literal["block", "embedding"]

_BLOCK = "blocks.0.hook_resid_pre"
# Logits from embeddings and from token ids may differ by this share of the largest of them.
_SAME = 1e-3


@dataclass(frozen=True, eq=False)
class Batch:
    """Texts of about the same length.

    Attributes:
        at: their places among the examples.
        examples: the texts.
        ids: token ids [batch, seq].
        mask: 1 for a token, 0 for padding [batch, seq].
        of_text: whether a token is of the user's text [batch, seq].
        targets: class indices [batch].
    """

    at: Sequence[int]
    examples: Sequence[Example]
    ids: Tensor
    mask: Tensor
    of_text: Tensor
    targets: Tensor


def batches(
    classifier: TextClassifier, examples: Sequence[Example], targets: Sequence[int], size: int
) -> Iterator[Batch]:
    """The examples in batches of near-equal length."""
    rows = [example.ids for example in examples]
    for part in classifier.buckets(rows, size):
        some = [examples[i] for i in part]
        given = classifier.batch([rows[i] for i in part])
        ids, mask = given["input_ids"], given["attention_mask"]
        of_text = torch.zeros(ids.shape, dtype=torch.bool)
        for i, example in enumerate(some):
            of_text[i, : len(example.ids)] = torch.from_numpy(example.of_text)
        classes = torch.tensor([targets[i] for i in part], device=ids.device)
        yield Batch(part.tolist(), some, ids, mask, of_text.to(ids.device), classes)


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


@dataclass(frozen=True, eq=False)
class OfVectors:
    """The output as a function of one vector a token, which gradients can be taken of.

    Attributes:
        classifier: whose output.
        output: see :func:`output_of`.
        entry: where the vectors enter: ``block``, at the first block, as the embeddings with their positions and (in
            BERT-like encoders) behind their layer norm; or ``embedding``, as rows of the embedding table.
    """

    classifier: TextClassifier
    output: Output
    entry: Entry

    def __call__(self, vectors: Tensor, ids: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """The output [batch] for the vectors of the tokens [batch, seq, D], with autograd; all else is of the ids."""
        if self.entry == "embedding":
            logits = self.classifier.logits({"inputs_embeds": vectors, "attention_mask": mask})
        else:

            def put(old: Tensor) -> Tensor:
                # Virtual tokens come first, and stay.
                return torch.cat([old[:, : old.shape[1] - vectors.shape[1]], vectors], dim=1)

            with edit(self.classifier.network, {_BLOCK: put}):
                logits = self.classifier.logits({"input_ids": ids, "attention_mask": mask})
        return output_of(logits, targets, self.output)

    def vectors(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The vectors of these tokens [batch, seq, D], detached.

        Raises:
            ModelError: the model's first block is not known, or it makes something else of embeddings than of their
                tokens.
        """
        inputs = {"input_ids": ids, "attention_mask": mask}
        with torch.no_grad():
            if self.entry == "block":
                with capture(self.classifier.network, [_BLOCK]) as seen:
                    self.classifier.logits(inputs)
                return seen[_BLOCK][:, -ids.shape[1] :]
            found: Tensor = self.classifier.language_model.network.get_input_embeddings()(ids)
            _check(
                self.classifier.logits({"inputs_embeds": found, "attention_mask": mask}), self.classifier.logits(inputs)
            )
            return found

    def absent(self, batch: Batch, vectors: Tensor, absent: Absent) -> Tensor:
        """The same vectors without the texts [batch, seq, D]: prompts and special tokens stay."""
        _, token = absent_token(self.classifier.language_model, absent)
        if token is None:
            return vectors.masked_fill(batch.of_text[..., None], 0.0)
        empty = self.vectors(batch.ids.masked_fill(batch.of_text, token), batch.mask)
        return torch.where(batch.of_text[..., None], empty, vectors)


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


def per_example(batch: Batch, tokens: Tensor) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """One array of token weights an example, without padding, from [batch, seq]."""
    whole = tokens.detach().double().cpu().numpy()
    return [whole[i, : len(example.ids)] for i, example in enumerate(batch.examples)]


def _check(found: Tensor, expected: Tensor) -> None:
    gap, largest = float((found - expected).abs().max()), float(expected.abs().max())
    if gap > _SAME * max(1.0, largest):
        raise ModelError(
            f"the model's logits differ by {gap:.2g} when it is given embeddings in place of token ids, so gradients "
            "of embeddings would be of another function; use saliency.occlusion."
        )
