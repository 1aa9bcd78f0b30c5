"""Tuning on adversarial copies in which a word and what replaces it must count alike (after FLAT)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.data import Labelled
from tracemend.mend.agreement import word_at
from tracemend.mend.attack import Copy, swapped
from tracemend.mend.penalty import by_gradient
from tracemend.mend.synonyms import Synonyms
from tracemend.progress import Progress
from tracemend.runs import fingerprint
from tracemend.saliency import Example, encoded
from tracemend.tuning import TextClassifier, Tuning
from tracemend.tuning.adapted import Pair
from tracemend.tuning.checkpoints import unbroken
from tracemend.tuning.own_loss import tune_on
from tracemend.tuning.tune import Tuned, class_weights

Tied = Literal["replaced", "all"]
_TINY = 1e-6


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """How the copies are made that a classifier is tuned on.

    Attributes:
        synonyms: what may stand for what.
        share: of a text's words that are replaced.
        copies: drawn a text and step, of which the one with the highest loss is tuned on.
        clean: epochs at first without copies.
    """

    synonyms: Synonyms
    share: float = 0.3
    copies: int = 4
    clean: int = 1

    def of(
        self, classifier: TextClassifier, pairs: Sequence[Pair], y: Tensor, rng: np.random.Generator
    ) -> list[Copy | None]:
        """For each text the copy of the highest loss; None where no word has a substitute."""
        drawn = [[swapped(pair, self.synonyms, self.share, rng) for _ in range(self.copies)] for pair in pairs]
        asked = [(i, copy) for i, some in enumerate(drawn) for copy in some if copy is not None]
        best: list[Copy | None] = [None] * len(pairs)
        if not asked:
            return best
        rows, _ = classifier.encode([copy.pair for _, copy in asked])
        of = torch.tensor([i for i, _ in asked], device=y.device)
        with torch.no_grad():
            losses = torch.nn.functional.cross_entropy(
                classifier.logits(classifier.batch(rows)), y[of], reduction="none"
            ).tolist()
        highest = [-math.inf] * len(pairs)
        for (i, copy), loss in zip(asked, losses, strict=True):
            if loss > highest[i]:
                highest[i], best[i] = loss, copy
        return best


def tied_penalty(phi: Tensor, of_text: Tensor, words: Tensor, pairs: Sequence[tuple[int, int, int, int]]) -> Tensor:
    r"""How differently words count that stand for each other (after Chen & Ji 2022).

    .. math:: \tfrac{1}{|P|} \sum_{(i, j) \in P} |s_i - s_j|, \quad s_i = \phi_i / \sum_u |\phi_u|

    Args:
        phi: attributions of tokens, with autograd [rows, seq].
        of_text: which tokens are of the user's text [rows, seq].
        words: 1 where a token belongs to a word [rows, words, seq].
        pairs: P, as (row, word, row, word).

    Returns:
        A number with a gradient to whatever phi depends on; 0 without pairs.
    """
    if not pairs:
        return phi.sum() * 0.0
    share = phi / (phi.abs() * of_text).sum(-1, keepdim=True).clamp(min=_TINY)
    of_words = (words.to(share.dtype) @ share[..., None])[..., 0]
    a, i, b, j = torch.tensor(list(pairs), device=phi.device).T
    return (of_words[a, i] - of_words[b, j]).abs().mean()


def aligned(
    examples: Sequence[Example], copies: Sequence[Example], places: Sequence[Sequence[int]], tied: Tied
) -> list[tuple[int, int, int, int]]:
    """Which words stand for each other, as :func:`tied_penalty` takes them: rows of the copies follow the examples'.

    Args:
        examples: texts.
        copies: one of each.
        places: of the replaced words of each.
        tied: the replaced words alone, or every word with that at its place.
    """
    found = []
    for row, (example, copy, own) in enumerate(zip(examples, copies, places, strict=True)):
        one, other = word_at(example), word_at(copy)
        for k in own if tied == "replaced" else range(len(one)):
            i, j = int(one[k]), int(other[k])
            if i >= 0 and j >= 0 and example.read[i] and copy.read[j]:
                found.append((row, i, row + len(examples), j))
    return found


def tune_tied(
    classifier: TextClassifier,
    train: Labelled,
    validation: Labelled,
    adversary: Adversary,
    tuning: Tuning,
    *,
    strength: float,
    tied: Tied = "replaced",
    out: Path | None = None,
    progress: Progress = Progress(),
) -> Tuned:
    r"""Tune on texts and adversarial copies, with attributions of words and their substitutes tied.

    .. math:: L = CE(x, y) + CE(x', y) + \gamma L_{tied}

    Args:
        classifier: fresh; it is tuned in place.
        train: what is tuned on.
        validation: whose average precision each checkpoint records; it chooses none.
        adversary: makes x' anew at each step.
        tuning: its precision and patience are not taken: always float32, to the last epoch.
        strength: gamma; 0 is plain adversarial tuning.
        tied: which words.
        out: folder for the checkpoints.

    Raises:
        ModelError: with gamma, the model's attention has no second derivative.
    """
    rows, cut = classifier.encode(train.pairs)
    pairs, y = train.pairs, torch.tensor(train.y, device=classifier.device)
    weights = class_weights(train).to(classifier.device) if tuning.class_weights else None
    steps = math.ceil(len(rows) / tuning.batch_size)
    # A tuning that goes on draws what an unbroken one would have drawn.
    count = itertools.count(steps * (len(unbroken(out)) if out is not None else 0))

    def entropy(logits: Tensor, classes: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(logits, classes, weight=weights)

    def loss(part: npt.NDArray[np.int64]) -> Tensor:
        step = next(count)
        own = y[torch.as_tensor(part)]
        if step < adversary.clean * steps:
            return entropy(classifier.logits(classifier.batch([rows[i] for i in part])), own)
        rng = np.random.default_rng([tuning.seed, step])
        copies = adversary.of(classifier, [pairs[i] for i in part], own, rng)
        with_copy = [k for k, copy in enumerate(copies) if copy is not None]
        without = [k for k, copy in enumerate(copies) if copy is None]
        if not with_copy:
            return entropy(classifier.logits(classifier.batch([rows[i] for i in part])), own)
        made = [copy for copy in copies if copy is not None]
        texts = encoded(classifier, [pairs[part[k]] for k in with_copy])
        others = encoded(classifier, [copy.pair for copy in made])
        both, classes = [*texts, *others], torch.cat([own[with_copy], own[with_copy]])
        batch = classifier.batch([example.ids for example in both])
        if strength:
            logits, x, g = by_gradient(classifier, batch, classes)
            of_text, words = _layout(both, batch["attention_mask"].shape[1])
            places = [copy.places for copy in made]
            extra = strength * tied_penalty(
                (x * g).sum(-1),
                of_text.to(x.device),
                words.to(x.device),
                aligned(texts, others, places, tied),
            )
        else:
            logits, extra = classifier.logits(batch), None
        n = len(texts)
        plain = [logits[:n]]
        if without:
            plain.append(classifier.logits(classifier.batch([rows[part[k]] for k in without])))
        found = entropy(torch.cat(plain), own[with_copy + without]) + entropy(logits[n:], classes[n:])
        return found if extra is None else found + extra

    work = {"adversary": fingerprint(asdict(adversary)), "strength": strength, "tied": tied}
    return tune_on(loss, classifier, rows, train, validation, tuning, work=work, cut=cut, out=out, progress=progress)


def _layout(examples: Sequence[Example], length: int) -> tuple[Tensor, Tensor]:
    """Which tokens are of the text [rows, seq], and of which word [rows, words, seq]."""
    of_text = torch.zeros(len(examples), length, dtype=torch.bool)
    words = torch.zeros(len(examples), max(len(example.words) for example in examples), length)
    for row, example in enumerate(examples):
        of_text[row, : len(example.ids)] = torch.from_numpy(example.of_text)
        inside = np.flatnonzero(example.owner >= 0)
        words[row, torch.from_numpy(example.owner[inside]), torch.from_numpy(inside)] = 1.0
    return of_text, words
