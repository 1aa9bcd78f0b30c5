"""What units of a tuned classifier do on whole texts, and the two parts that labelled texts are divided into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tracemend.arrays import Floats
from tracemend.data import Labelled, Splits, halves
from tracemend.errors import NeuronError
from tracemend.models import capture
from tracemend.progress import Progress
from tracemend.tuning import TextClassifier


def two_parts(name: str, model: Any, data: Any, *, texts: int, seed: int) -> tuple[Labelled, Labelled]:
    """Texts to find something in, and others to measure it on.

    Args:
        name: of the method, for messages.
        model: a tuned :class:`TextClassifier`.
        data: :class:`Labelled`, of which each part is about a half and no group is in both; or :class:`Splits`: train
            and validation.
        texts: most of each part, at random.
        seed: of the draw.

    Raises:
        NeuronError: another kind of model or data, or other labels.
        DataError: fewer than four texts, or groups that leave no two parts.
    """
    if not isinstance(model, TextClassifier):
        raise NeuronError(f"{name} takes a tuned TextClassifier, not {type(model).__name__}; tune one first.")
    if not isinstance(data, Labelled | Splits):
        raise NeuronError(f"{name} takes labelled texts, not {type(data).__name__}; read them first.")
    if tuple(data.labels) != model.labels:
        raise NeuronError(
            f"the data's labels are {', '.join(data.labels)} and the classifier's {', '.join(model.labels)}; give "
            "data with the labels it was tuned on."
        )
    if isinstance(data, Splits):
        rng = np.random.default_rng(seed)
        first, second = (part.take(rng.permutation(len(part))[:texts]) for part in (data.train, data.validation))
        return first, second
    return halves(data, most=texts, seed=seed)


@torch.no_grad()
def on_tokens(
    classifier: TextClassifier, pairs: Sequence[tuple[str, str | None]], site: str, *, batch_size: int = 32
) -> list[tuple[Floats, list[tuple[int, int, int]]]]:
    """What the units of a site do on the tokens of each text or reply.

    Returns:
        For each example activations [tokens, d], and of each token 0 with its characters ``[start, end)`` in the text,
        or 1 with those in the reply. Tokens that are of neither are left out.
    """
    rows, _ = classifier.encode(pairs)
    places = classifier.places(pairs)
    found: list[tuple[Floats, list[tuple[int, int, int]]]] = [(np.zeros((0, 0)), [])] * len(rows)
    for part in classifier.buckets(rows, batch_size):
        batch = classifier.batch([rows[i] for i in part])
        with capture(classifier.network, [site]) as seen:
            classifier.logits(batch)
        # Virtual tokens stand before the text.
        h = seen[site].flatten(2)[:, -batch["attention_mask"].shape[1] :].float().cpu().numpy()
        for at, i in enumerate(part.tolist()):
            of = [k for k, place in enumerate(places[i]) if place is not None]
            found[i] = (h[at, of], [place for place in places[i] if place is not None])
    return found


@torch.no_grad()
def peaks(
    classifier: TextClassifier,
    pairs: Sequence[tuple[str, str | None]],
    site: str,
    *,
    batch_size: int = 32,
    progress: Progress = Progress(),
) -> tuple[Floats, Floats]:
    """The highest activation of each unit on the tokens of each text or reply, and the classifier's probabilities.

    Special tokens and the words of a prompt are of no text: what a unit does there says nothing of its words.

    Returns:
        [n, d] and [n, C].

    Raises:
        NeuronError: a text without a token.
    """
    rows, _ = classifier.encode(pairs)
    places = classifier.places(pairs)
    found: list[Floats] = [np.zeros(0)] * len(rows)
    said = np.zeros((len(rows), len(classifier.labels)))
    for part in progress.track(classifier.buckets(rows, batch_size), task="read texts"):
        batch = classifier.batch([rows[i] for i in part])
        own = torch.zeros_like(batch["attention_mask"], dtype=torch.bool)
        for at, i in enumerate(part.tolist()):
            of = [k for k, place in enumerate(places[i]) if place is not None]
            if not of:
                raise NeuronError(f"the model's tokenizer reads no token of {pairs[i][0][:40]!r}; leave the text out.")
            own[at, of] = True
        with capture(classifier.network, [site]) as seen:
            logits = classifier.logits(batch)
        # Virtual tokens stand before the text.
        h = seen[site].flatten(2)[:, -own.shape[1] :].float()
        highest = h.masked_fill(~own[..., None], -torch.inf).amax(1).cpu().numpy()
        said[part] = logits.softmax(-1).cpu().numpy()
        for at, i in enumerate(part.tolist()):
            found[i] = highest[at]
    return np.stack(found), said
