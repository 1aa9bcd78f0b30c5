"""How probable a model finds texts, token by token."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracemend.errors import ModelError
from tracemend.models.language_model import LanguageModel
from tracemend.models.representations import padded
from tracemend.progress import Progress


@dataclass(frozen=True, eq=False)
class Likelihood:
    """One text's tokens with their log-probabilities.

    Attributes:
        tokens: ids, without special ones.
        log_probabilities: of each, in nats [t].
    """

    tokens: list[int]
    log_probabilities: Tensor

    @property
    def total(self) -> float:
        """Their sum: of the whole text."""
        return float(self.log_probabilities.double().sum())

    @property
    def mean(self) -> float:
        """Their mean a token: length-normalised."""
        return float(self.log_probabilities.double().mean())


def likelihoods(
    model: LanguageModel, texts: Sequence[str], *, batch_size: int = 16, progress: Progress = Progress()
) -> list[Likelihood]:
    r"""Log-probabilities of the tokens of texts.

    Decoders: :math:`\log p(w_t | bos, w_{<t})`, with a bos token before the text, so that the first token counts too.
    Masked models: the pseudo-log-likelihood :math:`\log p(w_t | w_{\neq t})` of Salazar et al. 2020 (arXiv 1910.14659),
    where of a word of several tokens those to the right of t are masked as well (Kauf and Ivanova 2023), since a word's
    later pieces give it away.

    Raises:
        ModelError: an encoder without its masked language model head, an encoder-decoder, a decoder without bos token,
            a text without tokens or longer than the window.

    Example:
        >>> good, bad = likelihoods(load("smollm2"), ["The cats sleep.", "The cats sleeps."])
        >>> good.total > bad.total
        True
    """
    check_likelihood(model)
    if model.family == "decoder":
        return _causal(model, texts, batch_size, progress)
    return _masked(model, texts, batch_size, progress)


def check_likelihood(model: LanguageModel) -> None:
    """Refuse a model that gives no probabilities of texts.

    Raises:
        ModelError: see :func:`likelihoods`.
    """
    if model.family == "encoder-decoder":
        raise ModelError(
            f"{model.name} is an encoder-decoder; probabilities of texts need a decoder or a masked model."
        )
    if model.family == "encoder":
        if model.network.get_output_embeddings() is None:
            raise ModelError(
                f"{model.name} is an encoder without a language model head, so it gives no probabilities of words. "
                "Load a masked model with its head (masked=True), or a decoder such as smollm2."
            )
        if model.tokenizer.mask_token_id is None:
            raise ModelError(f"the tokenizer of {model.name} has no mask token; give a masked model's own tokenizer.")
    elif model.tokenizer.bos_token_id is None:
        raise ModelError(
            f"the tokenizer of {model.name} has no bos token, so the first word of a text has no probability; set "
            "tokenizer.bos_token (many models were trained with their eos token there)."
        )


def keeps_logits(network: torch.nn.Module) -> bool:
    """Whether a network can leave out the logits of places that nobody asks for."""
    return "logits_to_keep" in inspect.signature(network.forward).parameters


def logits_at(network: Callable[..., Any], row: Tensor, place: Tensor, *, keeps: bool, **inputs: Any) -> Tensor:
    """Logits at some places of a batch [n, vocabulary].

    Args:
        network: of a decoder or masked model, or what stands for it.
        row: of each place [n].
        place: position in the row [n].
        keeps: whether to compute no other places' logits, see :func:`keeps_logits`; the work then depends on ``place``.
        inputs: of the network.
    """
    if keeps:
        kept, where = place.unique(return_inverse=True)
        found: Tensor = network(**inputs, logits_to_keep=kept).logits[row, where]
    else:
        found = network(**inputs).logits[row, place]
    return found


def contextless(model: LanguageModel) -> Tensor:
    """Log-probabilities of every token without any context [vocabulary]: after bos alone, or of a lone mask."""
    check_likelihood(model)
    tokenizer = model.tokenizer
    if model.family == "decoder":
        row, place = [int(tokenizer.bos_token_id)], 0
    else:
        row = tokenizer(tokenizer.mask_token).input_ids
        place = row.index(tokenizer.mask_token_id)
    ids, mask = padded(model, [row])
    with torch.inference_mode():
        logits = model.network(input_ids=ids, attention_mask=mask).logits[0, place]
        found: Tensor = logits.float().log_softmax(-1).cpu().clone()
        return found


def _encoded(model: LanguageModel, texts: Sequence[str], special: bool) -> list[Any]:
    found = [model.tokenizer(text, add_special_tokens=special, return_special_tokens_mask=True) for text in texts]
    for text, one in zip(texts, found, strict=True):
        if len(one.input_ids) - sum(one["special_tokens_mask"]) < 1:
            raise ModelError(f"the text {text[:40]!r} has no token for {model.name}, so it has no probability.")
        # Without the tokenizer's special tokens a bos is put before the text.
        length = len(one.input_ids) + (0 if special else 1)
        if length > model.window:
            raise ModelError(
                f"the text {text[:40]!r} has {length} tokens with the special ones and the window of {model.name} is "
                f"{model.window}; shorten it."
            )
    return found


def _causal(model: LanguageModel, texts: Sequence[str], batch_size: int, progress: Progress) -> list[Likelihood]:
    bos = int(model.tokenizer.bos_token_id)
    rows = [[bos, *one.input_ids] for one in _encoded(model, texts, special=False)]
    order = np.argsort([len(row) for row in rows], kind="stable")
    found: dict[int, Likelihood] = {}
    for begin in progress.track(range(0, len(order), batch_size), task=f"score with {model.name}"):
        batch = order[begin : begin + batch_size].tolist()
        ids, mask = padded(model, [rows[i] for i in batch])
        with torch.inference_mode():
            logits = model.network(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            expected = logits.gather(-1, ids[:, 1:, None])[..., 0] - logits.logsumexp(-1)
        for at, i in enumerate(batch):
            found[i] = Likelihood(rows[i][1:], expected[at, : len(rows[i]) - 1].cpu().clone())
    return [found[i] for i in range(len(rows))]


def _masked(model: LanguageModel, texts: Sequence[str], batch_size: int, progress: Progress) -> list[Likelihood]:
    encoded = _encoded(model, texts, special=True)
    jobs: list[tuple[int, int, list[int]]] = []
    places: list[list[int]] = []
    for i, one in enumerate(encoded):
        own = [at for at, special in enumerate(one["special_tokens_mask"]) if not special]
        words = one.word_ids()
        places.append(own)
        for at in own:
            hidden = {later for later in own if later >= at and words[later] == words[at]}
            row = [model.tokenizer.mask_token_id if t in hidden else token for t, token in enumerate(one.input_ids)]
            jobs.append((i, at, row))
    order = np.argsort([len(row) for _, _, row in jobs], kind="stable")
    said: dict[tuple[int, int], Tensor] = {}
    for begin in progress.track(range(0, len(order), batch_size), task=f"score with {model.name}"):
        batch = [jobs[j] for j in order[begin : begin + batch_size]]
        ids, mask = padded(model, [row for _, _, row in batch])
        where = torch.tensor([at for _, at, _ in batch], device=ids.device)
        with torch.inference_mode():
            logits = model.network(input_ids=ids, attention_mask=mask).logits
            of_place = logits[torch.arange(len(batch), device=ids.device), where].float().log_softmax(-1)
        for (i, at, _), row in zip(batch, of_place, strict=True):
            said[i, at] = row[encoded[i].input_ids[at]].cpu()
    return [
        Likelihood([one.input_ids[at] for at in places[i]], torch.stack([said[i, at] for at in places[i]]))
        for i, one in enumerate(encoded)
    ]
