"""Searches for a prompt: among tokens by the gradient, and among vectors by Adam."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tracemend.models import LanguageModel
from tracemend.probing.prompt_vectors import Slotted, loss_of


def discrete(
    model: LanguageModel, start: Sequence[int], train: Sequence[Slotted], *, steps: int, candidates: int
) -> tuple[list[int], list[float]]:
    r"""Replace one token of a prompt after another by that which lowers the loss (AutoPrompt, Shin et al. 2020).

    For slot j the vocabulary is ranked by the first-order estimate :math:`-e_w \cdot \nabla_{e_j} L`; the loss of the
    first ``candidates`` is taken, and the best of them is kept where it lowers it. Slots take turns, until each was
    tried in vain or the steps are used up.

    Args:
        model: whose weights are not touched.
        start: the tokens to begin with, one a slot.
        train: facts with as many slots.
        steps: slots that are tried at most.
        candidates: tokens whose loss is taken at each.

    Returns:
        The tokens, and the loss before and after each step.
    """
    table = model.network.get_input_embeddings().weight.detach()
    refused = [token for token in model.tokenizer.all_special_ids if token < len(table)]
    tokens = list(start)
    with torch.no_grad():
        best = float(loss_of(model, table[tokens], train))
    losses, idle = [best], 0
    for step in range(steps):
        slot = step % len(tokens)
        prompt = table[tokens].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss_of(model, prompt, train), prompt)
        merit = -(table @ gradient[slot].to(table.dtype)).float()
        merit[[*refused, tokens[slot]]] = -torch.inf
        kept = tokens[slot]
        for token in merit.topk(min(candidates, len(merit))).indices.tolist():
            tried = [*tokens[:slot], token, *tokens[slot + 1 :]]
            with torch.no_grad():
                loss = float(loss_of(model, table[tried], train))
            if loss < best:
                best, kept = loss, token
        idle = idle + 1 if kept == tokens[slot] else 0
        tokens[slot] = kept
        losses.append(best)
        if idle == len(tokens):
            break
    return tokens, losses


def continuous(
    model: LanguageModel,
    start: Tensor,
    train: Sequence[Slotted],
    dev: Sequence[Slotted],
    *,
    steps: int,
    learning_rate: float,
) -> tuple[Tensor, list[float]]:
    """Vectors in place of tokens, by Adam (OptiPrompt, Zhong et al. 2021); those of the lowest loss on dev are kept.

    Args:
        model: whose weights are not touched.
        start: the vectors to begin with [slots, D].
        train: facts whose loss is lowered.
        dev: facts that choose the step.
        steps: of Adam, each on all of ``train``.
        learning_rate: of Adam.

    Returns:
        The vectors, and the loss on dev before and after each step.
    """
    prompt = start.detach().clone().float().requires_grad_()
    optimizer = torch.optim.Adam([prompt], lr=learning_rate)
    kept, losses = prompt.detach().clone(), []
    for step in range(steps + 1):
        with torch.no_grad():
            losses.append(float(loss_of(model, prompt, dev)))
        if losses[-1] <= min(losses):
            kept = prompt.detach().clone()
        if step < steps:
            (prompt.grad,) = torch.autograd.grad(loss_of(model, prompt, train), prompt)
            optimizer.step()
    return kept, losses


def nearest(model: LanguageModel, prompt: Tensor) -> list[int]:
    """The token whose embedding is nearest to each vector, by cosine: how a vector is named, not what it means."""
    table = model.network.get_input_embeddings().weight.detach().float()
    likeness = torch.nn.functional.normalize(prompt.float(), dim=-1) @ torch.nn.functional.normalize(table, dim=-1).T
    found: list[int] = likeness.argmax(-1).tolist()
    return found
