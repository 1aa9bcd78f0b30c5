"""Extractors that are learned: which tokens are the reason, said by a head of their own beside the classifier.

After UNIREX (Chan et al. 2022, arXiv 2112.08802): a linear head on hidden states gives each token a score. It learns
the marks (plausibility), and that its first tokens alone give the label (sufficiency), and the others do not
(comprehensiveness). Through what it shares with the classifier, and through these two losses, the classifier learns
from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tracemend.errors import TuningError, did_you_mean
from tracemend.models import capture, edit
from tracemend.saliency.inputs import OfVectors, absent_token
from tracemend.tuning import TextClassifier, Tuning
from tracemend.tuning.adapted import Adapted, Pair
from tracemend.tuning.pooled import linear_head

LEARNED = ("shared", "separate")
# Shares of a text's tokens, of which one is drawn a step.
SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
# How far the loss may rise without the reason, and with it alone, before the term is satisfied.
WITHOUT, ALONE = 1.0, 0.1
_ENTRY = "blocks.0.hook_resid_pre"


class LearnedExtractor:
    """A score a token: how much it is the reason of the answer.

    Args:
        classifier: that it is learned beside.
        reader: whose hidden states it reads: the classifier itself (shared), or a second one of the same model, with
            an adapter of its own (separate).
        seed: of the head's first weights.

    Attributes:
        head: the linear head, from the last block's output [..., D] to scores [..., 1].
    """

    def __init__(self, classifier: TextClassifier, reader: TextClassifier, *, seed: int) -> None:
        width = classifier.language_model.hidden_size
        self.shared = reader is classifier
        self.reader = reader
        self.head = linear_head(width, 1, seed=seed, device=classifier.device)
        layers = int(classifier.language_model.config.num_hidden_layers)
        self._site = f"blocks.{layers - 1}.hook_resid_post"

    @classmethod
    def of(cls, extractor: str, classifier: TextClassifier, tuning: Tuning) -> LearnedExtractor | None:
        """A fresh one of this name; None for one that is not learned."""
        if extractor not in LEARNED:
            return None
        shared = extractor == "shared"
        reader = classifier if shared else tuning.classifier(classifier.language_model, classifier.labels)
        return cls(classifier, reader, seed=tuning.seed)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Its parameters by name; of a reader of its own those that its scores depend on."""
        found = {f"extractor.head.{name}": p for name, p in self.head.named_parameters()}
        if not self.shared:
            own = self.reader.trainable().items()
            found |= {f"extractor.reader.{name}": p for name, p in own if "classifier" not in name}
        return found

    def __call__(self, classifier: TextClassifier, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The classifier's logits [batch, C] and the scores of the tokens [batch, seq], with autograd."""
        with capture(self.reader.network, [self._site], grad=True) as seen:
            logits = self.reader.logits(batch)
        scores = self.head(seen[self._site].float())[..., 0][:, -batch["attention_mask"].shape[1] :]
        return logits if self.shared else classifier.logits(batch), scores


class Together(Adapted):
    """A classifier and what is learned beside it, as one model to tune; the classifier alone is what is kept."""

    def __init__(self, classifier: TextClassifier, extractor: LearnedExtractor) -> None:
        self.classifier, self.extractor = classifier, extractor
        self.loss = classifier.loss
        self.network = classifier.network
        self.language_model = classifier.language_model
        self.labels = classifier.labels
        self.kind = classifier.kind
        self.virtual_tokens = classifier.virtual_tokens
        self.max_length = classifier.max_length

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters of both by name."""
        return self.classifier.trainable() | self.extractor.trainable()

    def encode(self, pairs: Sequence[Pair]) -> tuple[list[list[int]], int]:
        """Those of the classifier."""
        return self.classifier.encode(pairs)

    def batch(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Those of the classifier."""
        return self.classifier.batch(rows)

    def measure(
        self, batch: Mapping[str, Tensor], y: Tensor, *, call: Callable[..., Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The classifier's loss and logits."""
        return self.classifier.measure(batch, y, call=call)


def first_tokens(scores: Tensor, of_text: Tensor, share: float) -> Tensor:
    r"""1 at each text's first ceil(share n) tokens by score, 0 at its others [batch, seq], with a gradient.

    Which tokens are the first has no slope; that of :math:`\sigma(score)` stands in for it (straight through).
    """
    n = of_text.sum(-1, keepdim=True)
    place = scores.masked_fill(~of_text, -torch.inf).argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    hard = ((place < (share * n).ceil()) & of_text).to(scores.dtype)
    soft = scores.sigmoid() * of_text
    return hard + soft - soft.detach()


def logits_of_part(classifier: TextClassifier, batch: Mapping[str, Tensor], keep: Tensor, of_text: Tensor) -> Tensor:
    """Logits [batch, C] where of the text only the tokens with ``keep`` 1 [batch, seq] are there.

    In the place of the others stand the vectors of the mask token (the pad token where there is none), as they enter
    the first block; a value between 0 and 1 mixes both. What is not of the text stays.
    """
    _, token = absent_token(classifier.language_model, "auto")
    entry = OfVectors(classifier, "log-odds", "block")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    nothing = entry.vectors(ids.masked_fill(of_text, int(token if token is not None else 0)), mask)
    kept = torch.where(of_text, keep, torch.ones_like(keep))[..., None]

    def put(old: Tensor) -> Tensor:
        own = old[:, -ids.shape[1] :]
        return torch.cat([old[:, : -ids.shape[1]], kept * own + (1 - kept) * nothing], dim=1)

    with edit(classifier.network, {_ENTRY: put}):
        return classifier.logits(batch)


def comprehensiveness_loss(full: Tensor, without: Tensor, y: Tensor) -> Tensor:
    """Mean of max(-1, CE(full) - CE(without the reason)) + 1: 0 once the label is lost by so much without it."""
    gap = functional.cross_entropy(full, y, reduction="none") - functional.cross_entropy(without, y, reduction="none")
    return (gap.clamp(min=-WITHOUT) + WITHOUT).mean()


def sufficiency_loss(full: Tensor, alone: Tensor, y: Tensor) -> Tensor:
    """Mean of max(-0.1, CE(the reason alone) - CE(full)) + 0.1: 0 once the reason alone does better by so much."""
    gap = functional.cross_entropy(alone, y, reduction="none") - functional.cross_entropy(full, y, reduction="none")
    return (gap.clamp(min=-ALONE) + ALONE).mean()


def plausibility_loss(criterion: str, scores: Tensor, targets: Tensor) -> Tensor:
    r"""How far scores are from the marks, a mean over the marked tokens: of logits, as Joshi et al. 2022 have it.

    ``mse``, ``mae``, ``huber`` of :math:`\sigma(score) - r`; ``bce`` with the rarer mark weighed up. The losses ``kl``
    and ``order`` are those of :func:`tracemend.mend.penalty.share_penalty`.

    Args:
        criterion: one of these four.
        scores: of tokens [batch, seq].
        targets: r: 0, 1, or NaN where a token has no mark [batch, seq].

    Raises:
        TuningError: another criterion.
    """
    marked = ~targets.isnan()
    found, r = scores[marked], targets[marked]
    if criterion == "bce":
        ones = float(r.sum())
        # With marks of one kind alone there is nothing to balance.
        weight = torch.tensor((len(r) - ones) / ones if 0 < ones < len(r) else 1.0, device=r.device, dtype=r.dtype)
        return functional.binary_cross_entropy_with_logits(found, r, pos_weight=weight)
    if criterion == "mse":
        return functional.mse_loss(found.sigmoid(), r)
    if criterion == "mae":
        return functional.l1_loss(found.sigmoid(), r)
    if criterion != "huber":
        raise TuningError(f"criterion {criterion!r} is {did_you_mean(criterion, ('bce', 'mse', 'mae', 'huber'))}")
    return functional.huber_loss(found.sigmoid(), r)


def share_of_step(step: int) -> float:
    """The share of tokens that a step takes for the reason: each of ``SHARES`` in its turn."""
    return SHARES[step % len(SHARES)]
