"""Whether the words that a method names are those that the model uses: delete them and see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from tracemend.errors import TraceError, did_you_mean
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.saliency.words import Example
from tracemend.tuning import TextClassifier

Deletion = Literal["auto", "mask", "pad", "remove"]
FIGURES = ("comprehensiveness", "sufficiency", "aopc")
# Shares of a text's words, as DeYoung et al. (2020) take them.
SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
# Words deleted one after another for the curve.
STEPS = 10

Order = Sequence[int]


@dataclass(frozen=True)
class Deleter:
    """How words are taken out of a text.

    Attributes:
        how: ``mask``, ``pad`` or ``remove``.
        token: what stands in a word's place; None where its tokens are taken out.
        pad: stands alone where nothing is left.
    """

    how: str
    token: int | None
    pad: int

    @classmethod
    def of(cls, model: LanguageModel, deletion: Deletion) -> Deleter:
        """The deletion of that name.

        ``auto`` puts the mask token in place of each token of a word where the tokenizer has one, since an encoder
        has seen it in place of words; else the word is removed.

        Raises:
            TraceError: no such deletion, or the tokenizer has no mask token.
        """
        if deletion not in get_args(Deletion):
            raise TraceError(f"deletion {deletion!r} is {did_you_mean(deletion, get_args(Deletion))}")
        mask, pad = model.tokenizer.mask_token_id, int(model.tokenizer.pad_token_id)
        if deletion == "auto":
            deletion = "remove" if mask is None else "mask"
        if deletion == "mask" and mask is None:
            raise TraceError(f"the tokenizer of {model.name} has no mask token; delete by pad or remove.")
        return cls(deletion, {"mask": mask, "pad": pad, "remove": None}[deletion], pad)

    def without(self, example: Example, words: Order) -> list[int]:
        """Token ids of the text without these words."""
        gone = np.isin(example.owner, np.asarray(words, dtype=np.int64))
        if self.token is None:
            return [token for token, out in zip(example.ids, gone, strict=True) if not out] or [self.pad]
        return [self.token if out else token for token, out in zip(example.ids, gone, strict=True)]


def faithfulness(
    classifier: TextClassifier,
    examples: Sequence[Example],
    targets: Sequence[int],
    orders: Sequence[Sequence[Order]],
    deleter: Deleter,
    *,
    batch_size: int = 32,
    progress: Progress = Progress(),
) -> npt.NDArray[np.float64]:
    r"""How the probability p of the target label falls when words are deleted in each order.

    With n words, of which the first k = ceil(share n) are taken for each of ``SHARES``:

    - comprehensiveness: mean of p(text) - p(text without the first k words); high where the order is faithful;
    - sufficiency: mean of p(text) - p(the first k words alone); low where it is faithful
      (both of DeYoung et al. 2020);
    - AOPC: :math:`\frac{1}{K+1} \sum_{k=0}^{K} p(x) - p(x^{(k)})` with one word deleted after another, the K =
      min(n, ``STEPS``) first of them (Samek et al. 2017); high where it is faithful.

    Args:
        orders: for each example some orders of its words, the most important first.

    Returns:
        [examples, orders, 3], in the order of ``FIGURES``.

    Example:
        >>> how = Deleter.of(classifier.language_model, "auto")
        >>> faithfulness(classifier, examples, targets, [[range(len(e.words))] for e in examples], how).shape
        (1, 1, 3)
    """
    # Orders begin with the same words and shares name the same number of them: each text is asked once.
    asked: dict[tuple[int, ...], int] = {}

    def ask(ids: Sequence[int]) -> int:
        return asked.setdefault(tuple(ids), len(asked))

    plans = []
    for example, some in zip(examples, orders, strict=True):
        for order in some:
            taken = [math.ceil(share * len(order)) for share in SHARES]
            plans.append(
                (
                    ask(example.ids),
                    [ask(deleter.without(example, order[:k])) for k in taken],
                    [ask(deleter.without(example, order[k:])) for k in taken],
                    [ask(deleter.without(example, order[:k])) for k in range(1, min(len(order), STEPS) + 1)],
                )
            )
    p = _probabilities(classifier, list(asked), batch_size, progress)
    found = []
    classes = [target for target, some in zip(targets, orders, strict=True) for _ in some]
    for target, (whole, without, alone, one_by_one) in zip(classes, plans, strict=True):
        full = p[whole, target]
        falls = [0.0, *(full - p[one_by_one, target])]
        found.append([(full - p[without, target]).mean(), (full - p[alone, target]).mean(), np.mean(falls)])
    return np.array(found).reshape(len(examples), -1, len(FIGURES))


def random_orders(example: Example, number: int, seed: Sequence[int]) -> list[list[int]]:
    """Orders of the words that the model reads, drawn under the seed: the control of every order."""
    rng = np.random.default_rng(list(seed))
    words = np.flatnonzero(example.read)
    return [rng.permutation(words).tolist() for _ in range(number)]


def _probabilities(
    classifier: TextClassifier, rows: list[tuple[int, ...]], batch_size: int, progress: Progress
) -> npt.NDArray[np.float64]:
    found = np.zeros((len(rows), len(classifier.labels)))
    with torch.inference_mode():
        for part in progress.track(classifier.buckets(rows, batch_size), task="delete words"):
            logits = classifier.logits(classifier.batch([rows[i] for i in part]))
            found[part] = logits.double().softmax(dim=1).cpu().numpy()
    return found
