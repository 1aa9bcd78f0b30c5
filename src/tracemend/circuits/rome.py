"""The steps of a rank-one model edit (ROME): the key of a subject, the value that says something else, the update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tracemend.circuits.activations import activations, starting
from tracemend.circuits.rank_one import RankOne, weights_print
from tracemend.circuits.tokens import ids_of, span_of, token_of
from tracemend.circuits.weights import module_at
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel, Replay

_ESSENCE = "{} is a"
# Below this loss the value says what it should, and is not driven on.
_ENOUGH = 0.05


@dataclass(frozen=True)
class Steps:
    """How a value is sought.

    Attributes:
        steps: of Adam.
        rate: its learning rate.
        kl: weight of what else is said of the subject staying as it is.
        decay: weight of the change's length.
        clamp: the longest change, in lengths of the old value.
    """

    steps: int
    rate: float
    kl: float
    decay: float
    clamp: float


@dataclass(frozen=True, eq=False)
class Moment:
    """What a block's feed-forward keys are like over a corpus.

    Attributes:
        keys: a sample, [tokens, d_mlp].
        factor: Cholesky factor of E[k kᵀ] with its ridge, [d_mlp, d_mlp].
    """

    keys: Tensor
    factor: Tensor

    @classmethod
    def of(cls, model: LanguageModel, layer: int, ids: Tensor, *, ridge: float) -> Moment:
        """From all tokens of ``ids`` [rows, pos].

        Args:
            ridge: added to the diagonal, in units of its mean.

        Raises:
            CircuitError: fewer tokens than keys have numbers, so that most directions were never seen.
        """
        keys = activations(model, f"blocks.{layer}.mlp.hook_post", ids).flatten(0, 1).float().cpu()
        count, width = keys.shape
        if count < width:
            raise CircuitError(
                f"the covariance of keys with {width} numbers is estimated from {count} tokens; expected at least "
                f"{width}, better four times as many. Raise tokens."
            )
        second = keys.T @ keys / count
        second += ridge * second.diagonal().mean() * torch.eye(width)
        return cls(keys, torch.linalg.cholesky(second))

    def whitened(self, key: Tensor) -> Tensor:
        """C⁻¹ k, [d_mlp]."""
        found: Tensor = torch.cholesky_solve(key[:, None], self.factor)[:, 0]
        return found


@dataclass(frozen=True, eq=False)
class Context:
    """Texts of one length that end as one prompt does: streams after the edited block, and where the subject ends.

    Attributes:
        replay: of the first of them, to go on from the block.
        streams: after the block, [texts, pos, d_model].
        keys: at the subject's last token, [texts, d_mlp].
        outputs: of the feed-forward layer there, [texts, d_model].
        place: of the subject's last token.
        layer: the edited block.
    """

    replay: Replay
    streams: Tensor
    keys: Tensor
    outputs: Tensor
    place: int
    layer: int

    @classmethod
    def of(cls, model: LanguageModel, layer: int, ids: Tensor, place: int) -> Context:
        """Run these texts [texts, pos] as far as is needed."""
        keys = activations(model, f"blocks.{layer}.mlp.hook_post", ids)[:, place]
        outputs = activations(model, f"blocks.{layer}.hook_mlp_out", ids)[:, place]
        streams = activations(model, f"blocks.{layer}.hook_resid_post", ids)
        return cls(Replay(model, ids[:1]), streams, keys, outputs, place, layer)

    def log_probabilities(self, change: Tensor | None) -> Tensor:
        """Of the next token [texts, vocab], with ``change`` [d_model] added to the feed-forward output."""
        streams = self.streams
        if change is not None:
            streams = streams.clone()
            streams[:, self.place] = streams[:, self.place] + change
        return self.replay.run(self.layer + 1, streams).float().log_softmax(-1)


def contexts_of(
    model: LanguageModel, layer: int, prompt: str, subject: str, prefixes: Sequence[Sequence[int]]
) -> list[Context]:
    """The prompt by itself, and behind each of the prefixes (token ids, all of one length)."""
    alone = Context.of(model, layer, ids_of(model, prompt), span_of(model, prompt, subject)[-1])
    if not prefixes:
        return [alone]
    # Behind other words the prompt begins with a space, which may change how it is cut.
    front, behind = starting(model), f" {prompt}"
    ids = model.tokenizer(behind, add_special_tokens=False).input_ids
    rows = torch.tensor([[*front, *prefix, *ids] for prefix in prefixes], device=model.network.device)
    if rows.shape[1] > model.window:
        raise CircuitError(
            f"{prompt!r} behind a prefix has {rows.shape[1]} tokens and {model.name} reads {model.window}; shorten "
            "the prompt or the prefixes."
        )
    place = span_of(model, behind, subject)[-1] + len(prefixes[0])
    return [alone, Context.of(model, layer, rows, place)]


def value_change(
    model: LanguageModel, contexts: Sequence[Context], subject: str, target: int, how: Steps
) -> tuple[Tensor, float]:
    """What is to be added to the feed-forward output at the subject, so that ``target`` follows.

    Minimises - mean log p(target | contexts) + kl KL(p'(. | "SUBJECT is a") || p(...)) + decay |δ| / |v|², |δ| at most
    clamp |v|, with Adam.

    Returns:
        δ [d_model], and the last mean log-probability of the target.
    """
    layer, old = contexts[0].layer, contexts[0].outputs[0]
    text = _ESSENCE.format(subject)
    essence = Context.of(model, layer, ids_of(model, text), span_of(model, text, subject)[-1])
    with torch.no_grad():
        before = essence.log_probabilities(None)
    size = old.norm()
    change = torch.zeros_like(old, requires_grad=True)
    adam = torch.optim.Adam([change], lr=how.rate)
    reached = float("nan")
    with torch.enable_grad():
        for step in range(how.steps + 1):
            said = torch.cat([context.log_probabilities(change)[:, target] for context in contexts]).mean()
            after = essence.log_probabilities(change)
            drift = (after.exp() * (after - before)).sum()
            loss = -said + how.kl * drift + how.decay * change.norm() / size**2
            reached = float(said.detach())
            if float(loss.detach()) < _ENOUGH or step == how.steps:
                break
            # The length has no gradient where it is zero.
            slope = torch.autograd.grad(loss, change)[0]
            change.grad = torch.nan_to_num(slope)
            adam.step()
            with torch.no_grad():
                longest = how.clamp * size
                if change.norm() > longest:
                    change *= longest / change.norm()
    return change.detach(), reached


def rank_one(
    model: LanguageModel,
    moment: Moment,
    contexts: Sequence[Context],
    change: Tensor,
    facts: Mapping[str, str],
    *,
    key: Tensor | None = None,
) -> RankOne:
    """The least change of W that answers the key with the new value.

    With k the mean key over the contexts, v = W k at the prompt plus the change, and u = C⁻¹ k:

        W' = W + u ((v - W k) / (u · k))ᵀ        (rows times matrix)

    Args:
        key: in place of the mean over the contexts, [d_mlp]: a control.
    """
    layer = contexts[0].layer
    own = torch.cat([context.keys for context in contexts]).mean(0)
    with torch.no_grad():
        said = module_at(model, f"blocks.{layer}.mlp.hook_post")(own)
    wanted = contexts[0].outputs[0] + change - said
    chosen = own.float().cpu() if key is None else key
    reads = moment.whitened(chosen)
    writes = wanted.float().cpu() / float(reads @ chosen)
    return RankOne(layer, reads, writes, weights_print(model, layer), dict(facts))


def target_of(model: LanguageModel, row: Mapping[str, str], column: str) -> int:
    """The one token of a row's ``answer`` or ``target``."""
    return token_of(model, row["prompt"], row[column])
