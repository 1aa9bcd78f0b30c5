"""Prompts as vectors between a subject and its gap: what they are scored and searched by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracemend.arrays import Floats
from tracemend.errors import ProbeError
from tracemend.models import LanguageModel
from tracemend.models.likelihood import keeps_logits, logits_at
from tracemend.models.representations import padded


@dataclass(frozen=True, eq=False)
class Slotted:
    """Rows of tokens with places for a prompt's vectors.

    Attributes:
        ids: token ids; in the slots any token stands [n, seq].
        mask: 1 for a token, 0 for padding [n, seq].
        slots: which places are the prompt's, as many in each row [n, seq].
        at: row, place and token of each token that is to be told [t, 3]; the logits at the place are about it.
        of: which job (row of the caller) each of them is of [t].
    """

    ids: Tensor
    mask: Tensor
    slots: Tensor
    at: Tensor
    of: Tensor

    @classmethod
    def make(
        cls, model: LanguageModel, subjects: Sequence[str], objects: Sequence[Sequence[int]], slots: int
    ) -> Slotted:
        """A row a subject: the subject, the slots, and the gap for its object's tokens.

        A decoder reads the object's tokens but the last; a masked model as many masks, and signs that close the text.

        Raises:
            ProbeError: a row is longer than the model's window.
        """
        rows, spans, told, of = [], [], [], []
        for i, (subject, tokens) in enumerate(zip(subjects, objects, strict=True)):
            begin, end = _around(model)
            before = [*begin, *model.tokenizer(subject, add_special_tokens=False).input_ids]
            gap = len(before) + slots
            if model.family == "decoder":
                row, first = [*before, *[0] * slots, *tokens[:-1]], gap - 1
            else:
                row, first = [*before, *[0] * slots, *[int(model.tokenizer.mask_token_id)] * len(tokens), *end], gap
            if len(row) > model.window:
                raise ProbeError(
                    f"{subject[:40]!r} with a prompt of {slots} tokens has {len(row)} and the window of {model.name} "
                    f"is {model.window}; take a shorter prompt."
                )
            rows.append(row)
            spans.append((len(before), gap))
            told += [(i, first + k, token) for k, token in enumerate(tokens)]
            of += [i] * len(tokens)
        ids, mask = padded(model, rows)
        places = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
        for i, (start, stop) in enumerate(spans):
            places[i, start:stop] = True
        return cls(ids, mask, places, torch.tensor(told, device=ids.device), torch.tensor(of, device=ids.device))

    def __len__(self) -> int:
        return len(self.ids)

    def said(self, model: LanguageModel, prompt: Tensor) -> Tensor:
        """Log-probabilities at the places of ``at`` [t, vocabulary], with autograd to the prompt [slots, D]."""
        table = model.network.get_input_embeddings()(self.ids)
        vectors = prompt.to(table.dtype).expand(len(self), -1, -1).reshape(-1, table.shape[-1])
        inputs = table.masked_scatter(self.slots[..., None], vectors)
        row, place, _ = self.at.T
        keeps = keeps_logits(model.network)
        logits = logits_at(model.network, row, place, keeps=keeps, inputs_embeds=inputs, attention_mask=self.mask)
        found: Tensor = logits.float().log_softmax(-1)
        return found

    def log_probabilities(self, model: LanguageModel, prompt: Tensor) -> Tensor:
        """Of each row's object, the sum over its tokens [n], with autograd to the prompt's vectors [slots, D]."""
        said = self.said(model, prompt).gather(1, self.at[:, 2:])[:, 0]
        return torch.zeros(len(self), device=said.device).index_add(0, self.of, said)


def typed_scores(
    model: LanguageModel, prompt: Tensor, subjects: Sequence[str], candidates: Sequence[Sequence[int]], batch_size: int
) -> Floats:
    """Log-probability of every candidate for every subject [n, k]."""
    # Candidates that leave the same text around them share a row: it is read once.
    groups: dict[tuple[int, ...], list[int]] = {}
    for k, tokens in enumerate(candidates):
        key = (len(tokens),) if model.family == "encoder" else (len(tokens), *tokens[:-1])
        groups.setdefault(key, []).append(k)
    jobs = [(i, group) for i in range(len(subjects)) for group in groups.values()]
    found = np.zeros((len(subjects), len(candidates)))
    with torch.inference_mode():
        for begin in range(0, len(jobs), batch_size):
            some = jobs[begin : begin + batch_size]
            texts, tokens_of = [subjects[i] for i, _ in some], [candidates[group[0]] for _, group in some]
            rows = Slotted.make(model, texts, tokens_of, len(prompt))
            said = rows.said(model, prompt)
            for row, (i, group) in enumerate(some):
                own = said[rows.of == row]
                for k in group:
                    told = torch.tensor(list(candidates[k]), device=own.device)
                    found[i, k] = float(own.gather(1, told[:, None]).sum())
    return found


def loss_of(model: LanguageModel, prompt: Tensor, rows: Sequence[Slotted]) -> Tensor:
    """Mean over the rows of minus the log-probability of their objects, with autograd."""
    total = sum((-part.log_probabilities(model, prompt)).sum() for part in rows)
    return torch.as_tensor(total) / sum(map(len, rows))


def batched(
    model: LanguageModel, subjects: Sequence[str], objects: Sequence[Sequence[int]], slots: int, batch_size: int
) -> list[Slotted]:
    """:meth:`Slotted.make` in batches."""
    return [
        Slotted.make(model, subjects[k : k + batch_size], objects[k : k + batch_size], slots)
        for k in range(0, len(subjects), batch_size)
    ]


def _around(model: LanguageModel) -> tuple[list[int], list[int]]:
    """The special tokens before and behind a text."""
    tokenizer = model.tokenizer
    if model.family == "decoder":
        return [int(tokenizer.bos_token_id)], []
    ids = tokenizer(tokenizer.mask_token).input_ids
    place = ids.index(tokenizer.mask_token_id)
    return ids[:place], ids[place + 1 :]
