"""Many tokens' activations at one site, computed no further than that site."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tracemend.errors import CircuitError
from tracemend.models import LanguageModel, edit, site
from tracemend.models.sites import trunk
from tracemend.progress import Progress

_BATCH = 8


class _Reached(Exception):
    """Carries an activation out of a forward pass that need not go on."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value


@torch.no_grad()
def activations(model: LanguageModel, name: str, ids: Tensor) -> Tensor:
    """The activation of the site ``name`` on these texts, [texts, pos, ...]; later layers are not computed.

    Args:
        model: a decoder.
        name: of an editable site.
        ids: [texts, pos], all of one length.
    """

    def leave(value: Tensor) -> Tensor:
        raise _Reached(value)

    found = []
    for batch in ids.split(_BATCH):
        try:
            with edit(model, {site(model, name).name: leave}):
                trunk(model)(input_ids=batch.to(model.network.device), use_cache=False)
        except _Reached as reached:
            found.append(reached.value)
    if not found:
        raise CircuitError(f"no forward pass reached {name}; decoder blocks of {model.name} are run in order.")
    return torch.cat(found)


def windows(model: LanguageModel, texts: Sequence[str], *, tokens: int, length: int = 128) -> Tensor:
    """The texts' tokens in rows of one length, [rows, length], each begun as the tokenizer begins a text.

    Args:
        model: whose tokenizer and window count.
        texts: read one after the other, until there are enough.
        tokens: wanted, without those that begin the rows; rounded up to whole rows.
        length: of a row, or the model's window if that is shorter.

    Raises:
        CircuitError: the texts have fewer tokens.
    """
    front = starting(model)
    room = min(length, model.window) - len(front)
    rows = max(1, -(-tokens // room))
    stream: list[int] = []
    for text in texts:
        stream += model.tokenizer(text, add_special_tokens=False).input_ids
        if len(stream) >= rows * room:
            break
    if len(stream) < rows * room:
        raise CircuitError(
            f"the texts have {len(stream)} tokens for {model.name}; {rows * room} are needed. Give more of them, or "
            "ask for fewer tokens."
        )
    cut = torch.tensor(stream[: rows * room]).view(rows, room)
    return torch.cat([torch.tensor(front, dtype=torch.long).repeat(rows, 1), cut], 1)


def starting(model: LanguageModel) -> list[int]:
    """The special tokens that the tokenizer puts before a text."""
    found = model.tokenizer("the", return_special_tokens_mask=True)
    first = list(found["special_tokens_mask"]).index(0)
    return [int(token) for token in found.input_ids[:first]]


@torch.no_grad()
def token_losses(model: LanguageModel, ids: Tensor, *, progress: Progress = Progress()) -> Tensor:
    """Cross entropy of each next token in nats, [texts, pos - 1]."""
    found = []
    for batch in progress.track(ids.to(model.network.device).split(2), task="loss"):
        logits = model.network(batch, use_cache=False).logits
        found.append(torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), batch[:, 1:], reduction="none"))
    return torch.cat(found).cpu()
