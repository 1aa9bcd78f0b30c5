"""Editing a fact in the weights (ROME), with what else the edit changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracemend.circuits.activations import token_losses, windows
from tracemend.circuits.circuit import Circuit, generator, layers_of, rows_of
from tracemend.circuits.rank_one import RankOne, edited, read_edits, weights_print, write_edits
from tracemend.circuits.rome import Moment, Steps, contexts_of, rank_one, target_of, value_change
from tracemend.circuits.tokens import ids_of, span_of
from tracemend.circuits.weights import values
from tracemend.data.rewrites import Rewrites
from tracemend.errors import CircuitError
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel, tiny
from tracemend.models.representations import padded
from tracemend.progress import Progress

_FILE = "edits.safetensors"
_ARMS = ("edited", "other key")
_SHARES = ("efficacy", "paraphrases", "neighbours", "preferred")


@dataclass(frozen=True, kw_only=True)
class EditResult(MethodResult):
    """One row a fact and arm, and the edits themselves.

    Columns: ``prompt``, ``subject``, ``answer``, ``target``, ``arm`` (before, edited, other key; ``left out`` where
    nothing was done), ``p_answer``, ``p_target``, ``efficacy`` (1: the target is the most likely next token),
    ``paraphrases`` (share in which the target is more likely than the answer), ``neighbours`` (share whose most likely
    token is what it was), ``preferred`` (share of neighbours that find the answer more likely than the target), ``nll``
    (change of the loss on other texts, nats a token), ``reason``.

    Attributes:
        edits: one of each fact that was edited, in the order of the rows; see
            :func:`tracemend.circuits.rank_one.edited`.
    """

    edits: tuple[RankOne, ...] = ()

    def save(self, directory: Path | str) -> Path:
        """Write the result, and the edits beside it as ``edits.safetensors``."""
        path = super().save(directory)
        write_edits(path / _FILE, self.edits)
        return path

    @classmethod
    def _read(cls, path: Path) -> dict[str, Any]:
        return {**super()._read(path), "edits": tuple(read_edits(path / _FILE))}

    def figure(self) -> Any:
        """Shares by arm."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 3.4), layout="constrained")
        axes = figure.subplots()
        shares = self.rows[self.rows["arm"] != "left out"].groupby("arm", sort=False)[list(_SHARES)].mean().T
        shares.plot.bar(ax=axes, rot=0, color=["#b9b9b9", "#2f6f8f", "#c07b2f"])
        axes.set(ylabel="share", ylim=(0, 1.05))
        return figure


@dataclass(frozen=True, kw_only=True)
class Edit(Circuit[EditResult]):
    """Rank-one editing of facts in a feed-forward layer (ROME), each fact on its own.

    The key k of a subject is the mean input of the block's second feed-forward matrix W at the subject's last token,
    over the prompt alone and behind ``prefixes`` stretches of the corpus. The value v is what W gave there plus the δ
    that makes the target follow (:func:`tracemend.circuits.rome.value_change`). With C = E[k kᵀ] over the corpus plus
    ``ridge`` times its mean diagonal, the edit is the least change that answers k with v:

        u = C⁻¹ k        W' = W + u ((v - W k) / (u · k))ᵀ

    Meng et al. 2022, "Locating and Editing Factual Associations in GPT", arXiv 2202.05262. Every edit is put on,
    measured and taken off; afterwards the weights must be the same bits, or the method raises.

    Metrics (means over the facts): ``facts`` (how many were edited), ``efficacy``, ``p_target``, ``paraphrases``,
    ``neighbours`` (most likely token kept), ``preferred`` (the answer before the target), ``nll`` (change of the loss
    on ``held_out`` other tokens of the corpus, nats a token), ``nll_largest``. Controls: ``before`` (the model as it
    is); ``other key`` (the same value at the key of a random token of the corpus, of the same length).

    Attributes:
        layer: whose feed-forward layer is edited; causal tracing says where facts are looked up.
        floor: the least p of an answer that counts as known. What the model does not say cannot be changed.
        most: facts that are edited at most, the first ones that it knows.
        tokens: of the corpus, for C.
        held_out: further tokens, on which the loss is taken.
        prefixes: stretches of the corpus.
        prefix: tokens of each.
        ridge: in units of the mean of C's diagonal.
        steps: of Adam, for δ.
        rate: its learning rate.
        kl: weight of the divergence on "SUBJECT is a".
        decay: weight of |δ| / |v|².
        clamp: longest δ, in lengths of v.

    Raises:
        CircuitError: not a decoder, no corpus or too short a one, a layer that is not there, no fact that the model
            knows (p and rank are shown), a subject that is not in its prompt, an answer or target of several tokens.

    Example:
        >>> row = {"prompt": "The capital of France is", "subject": "France", "answer": "Paris", "target": "Rome"}
        >>> found = Edit(floor=0.1).run(load("smollm2"), Rewrites.make([row]).within(corpus))
        >>> with edited(model, found.edits): ...
    """

    name: ClassVar[str] = "circuits.edit"
    inputs: ClassVar[str] = "Rewrites"
    capabilities: ClassVar[frozenset[str]] = frozenset({"decoder", "gradients"})
    at_least: ClassVar = {"most": 1, "tokens": 1, "held_out": 1, "prefixes": 1, "prefix": 1, "steps": 1}

    layer: int = 8
    floor: float = 0.3
    most: int = 10
    tokens: int = 8192
    held_out: int = 512
    prefixes: int = 5
    prefix: int = 6
    ridge: float = 0.01
    steps: int = 20
    rate: float = 0.5
    kl: float = 0.0625
    decay: float = 0.5
    clamp: float = 4.0

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> EditResult:
        """Edit the facts that the model knows, one at a time.

        Args:
            model: a decoder.
            data: :class:`tracemend.data.rewrites.Rewrites` with its corpus.
            progress: shows the facts.

        Raises:
            CircuitError: see the class.
        """
        network, data = self.decoder(model), self._checked(self.decoder(model), data)
        width, vocabulary = len(values(network, self.layer)), int(network.config.vocab_size)
        self.announce(
            self.tokens * width + 3 * width**2 + 256 * (vocabulary + network.hidden_size),
            "take fewer tokens of the corpus",
        )
        asked = self._ask(network, data)
        known = [at for at, one in enumerate(asked) if one.p >= self.floor]
        ids = windows(network, data.corpus, tokens=self.tokens + self.held_out)
        cut = -(-self.held_out // (ids.shape[1])) or 1
        if cut >= len(ids):
            raise CircuitError(f"held_out is {self.held_out} and leaves nothing of the corpus for C; lower it.")
        corpus, other = ids[:-cut], ids[-cut:]
        moment = Moment.of(network, self.layer, corpus, ridge=self.ridge)
        loss = float(token_losses(network, other).mean())
        random, before = generator(self.seed), weights_print(network, self.layer)
        found: list[dict[str, Any]] = []
        edits: list[RankOne] = []
        for at in progress.track(known, task="edit"):
            one = asked[at]
            found.append(one.facts | {"arm": "before", **one.measured(network), "nll": 0.0, "reason": ""})
            for arm, change in zip(_ARMS, self._edits(network, one, moment, corpus, random), strict=True):
                with edited(network, [change]):
                    nll = float(token_losses(network, other).mean()) - loss
                    found.append(one.facts | {"arm": arm, **one.measured(network), "nll": nll, "reason": ""})
                edits += [change] if arm == "edited" else []
            if weights_print(network, self.layer) != before:
                raise CircuitError(f"the weights of layer {self.layer} were not put back; please report this.")
        for one in asked:
            if one.p < self.floor:
                reason = f"not known: p {one.p:.3f} below {self.floor:g}, rank {one.rank}"
                found.append(one.facts | {"arm": "left out", "reason": reason})
        return self._result(pd.DataFrame(found), edits)

    def _checked(self, model: LanguageModel, data: Any) -> Rewrites:
        found = self.table(Rewrites, data)
        if not found.corpus:
            raise CircuitError(
                f"{self.name} needs a corpus, to leave other uses of the weights as they are: Rewrites.within(texts), "
                "or --corpus FILE."
            )
        if not 0 <= self.layer < layers_of(model):
            raise CircuitError(f"layer is {self.layer}; {model.name} has layers 0 to {layers_of(model) - 1}.")
        for name in ("ridge", "rate", "clamp"):
            if not getattr(self, name) > 0:
                raise CircuitError(f"{name} is {getattr(self, name)}; expected a number above 0.")
        return found

    def _ask(self, model: LanguageModel, data: Rewrites) -> list[_Asked]:
        """The facts, until enough of them are known."""
        asked: list[_Asked] = []
        for at, row in enumerate(rows_of(data)):
            if sum(one.p >= self.floor for one in asked) < self.most:
                asked.append(_Asked.of(model, row, data, at))
        if all(one.p < self.floor for one in asked):
            best = max(asked, key=lambda one: one.p)
            raise CircuitError(
                f"{model.name} knows none of the {len(asked)} facts: the best is {best.facts['prompt']!r} -> "
                f"{best.facts['answer']!r} with p {best.p:.3f} and rank {best.rank}; expected at least "
                f"{self.floor:g}. Give other facts or lower the floor."
            )
        return asked

    def _edits(
        self, model: LanguageModel, one: _Asked, moment: Moment, corpus: Tensor, random: torch.Generator
    ) -> tuple[RankOne, RankOne]:
        """The edit, and the same value at another key."""
        stretches = _stretches(corpus, self.prefixes, self.prefix, random)
        contexts = contexts_of(model, self.layer, one.facts["prompt"], one.facts["subject"], stretches)
        how = Steps(self.steps, self.rate, self.kl, self.decay, self.clamp)
        change, _ = value_change(model, contexts, one.facts["subject"], one.target, how)
        own = rank_one(model, moment, contexts, change, one.facts)
        key = moment.keys[int(torch.randint(len(moment.keys), (1,), generator=random))]
        size = torch.cat([context.keys for context in contexts]).mean(0).norm().float().cpu()
        return own, rank_one(model, moment, contexts, change, one.facts, key=key * size / key.norm().clamp_min(1e-12))

    def _result(self, rows: pd.DataFrame, edits: Sequence[RankOne]) -> EditResult:
        def figures(arm: str) -> dict[str, float]:
            own = rows[rows["arm"] == arm]
            found = {name: float(own[name].mean()) for name in ("efficacy", "p_target", *_SHARES[1:], "nll")}
            return found | {"nll_largest": float(own["nll"].abs().max())}

        return EditResult(
            metrics={"facts": float(len(edits)), **figures("edited")},
            controls={arm: figures(arm) for arm in ("before", "other key")},
            config=self.config,
            rows=rows,
            edits=tuple(edits),
        )

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """One fact on a tiny decoder, which knows nothing, so that any p will do."""
        row = {
            "prompt": "the nice people love", "subject": "nice people", "answer": "film", "target": "movie",
            "paraphrases": "so nice people like | all nice people hate", "neighbours": "the sad people love",
        }  # fmt: skip
        words = "the movie is good and this film was sad so we hate it but they love to stop the awful toxic text"
        corpus = [" ".join(np.roll(words.split(), i)) for i in range(20)]
        return (
            cls(layer=0, floor=0.0, tokens=128, held_out=60, prefixes=3, prefix=3, steps=8),
            tiny("llama"),
            Rewrites.make([row]).within(corpus),
        )


@dataclass(frozen=True, eq=False)
class _Asked:
    """A fact with its prompts and what the model says before any edit."""

    facts: dict[str, str]
    answer: int
    target: int
    paraphrases: list[str]
    neighbours: list[str]
    kept: Tensor
    p: float
    rank: int

    @classmethod
    def of(cls, model: LanguageModel, row: dict[str, str], data: Rewrites, at: int) -> _Asked:
        span_of(model, row["prompt"], row["subject"])
        answer, target = (target_of(model, row, column) for column in ("answer", "target"))
        if answer == target:
            raise CircuitError(f"row {at}: answer and target are the same token, {row['answer']!r}.")
        neighbours = data.prompts("neighbours", at)
        logits = next_logits(model, [row["prompt"], *neighbours])
        p, rank = float(logits[0].softmax(-1)[answer]), 1 + int((logits[0] > logits[0, answer]).sum())
        facts = {name: row[name] for name in Rewrites.columns}
        paraphrases = data.prompts("paraphrases", at)
        return cls(facts, answer, target, paraphrases, neighbours, logits[1:].argmax(-1), p, rank)

    def measured(self, model: LanguageModel) -> dict[str, float]:
        """What the model says now; NaN where there is nothing to ask."""
        logits = next_logits(model, [self.facts["prompt"], *self.paraphrases, *self.neighbours])
        p = logits[0].softmax(-1)
        said, near = logits[1 : 1 + len(self.paraphrases)], logits[1 + len(self.paraphrases) :]
        return {
            "p_answer": float(p[self.answer]),
            "p_target": float(p[self.target]),
            "efficacy": float(int(p.argmax()) == self.target),
            "paraphrases": _mean(said[:, self.target] > said[:, self.answer]),
            "neighbours": _mean(near.argmax(-1) == self.kept),
            "preferred": _mean(near[:, self.answer] > near[:, self.target]),
        }


@torch.no_grad()
def next_logits(model: LanguageModel, prompts: Sequence[str]) -> Tensor:
    """Logits of what follows each prompt, [prompts, vocab]."""
    rows = [ids_of(model, prompt)[0].tolist() for prompt in prompts]
    found = []
    for begin in range(0, len(rows), 16):
        batch = rows[begin : begin + 16]
        ids, mask = padded(model, batch)
        logits = model.network(input_ids=ids, attention_mask=mask, use_cache=False).logits
        found.append(logits[torch.arange(len(batch)), torch.tensor([len(row) - 1 for row in batch])].float().cpu())
    return torch.cat(found)


def _mean(hits: Tensor) -> float:
    return float(hits.float().mean()) if len(hits) else float("nan")


def _stretches(corpus: Tensor, count: int, length: int, random: torch.Generator) -> list[list[int]]:
    """Random stretches of the corpus, without what begins a row."""
    length = min(length, corpus.shape[1] - 1)
    rows = torch.randint(len(corpus), (count,), generator=random).tolist()
    starts = torch.randint(1, corpus.shape[1] - length + 1, (count,), generator=random).tolist()
    return [corpus[row, start : start + length].tolist() for row, start in zip(rows, starts, strict=True)]
