"""Sentence-embedding similarity in place of influence: the control that needs no tuning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from tracemend.arrays import Floats
from tracemend.errors import ModelError, TraceError
from tracemend.models import LanguageModel, sites
from tracemend.models.representations import layer_count, padded, states
from tracemend.progress import Progress


def embed(
    model: LanguageModel,
    pairs: Sequence[tuple[str, str | None]],
    *,
    max_length: int = 128,
    layers: int = 1,
    batch_size: int = 32,
    progress: Progress = Progress(),
) -> npt.NDArray[np.float32]:
    """Mean of hidden states over the text's tokens, unit length [n, layers * D].

    Of a decoder the first token is left out, unless it is the only one: most of its state is the same in every text
    (massive activations, Sun et al. 2024, arXiv 2402.17762; in smollm2 a hundred times as long as the others), and the
    mean would be little else.

    Args:
        model: untuned; of an encoder-decoder the encoder is used.
        pairs: text and reply. For an encoder the tokenizer's separator stands between them; token type ids are not
            given, so that both count as the first segment. For the others a new line stands between them.
        max_length: tokens kept of an example.
        layers: 1 takes the last one; more are spread evenly over the upper half of the network, the last among them,
            and stand side by side with equal weight. What a label depends on often lies below the last layer. Where no
            sites are known in the model it is the last one alone, and the progress says so.

    Raises:
        TraceError: ``layers`` is below 1.

    Example:
        >>> embed(load("minilm"), [("you rock", None)]).shape
        (1, 384)
    """
    if layers < 1:
        raise TraceError(f"layers is {layers}; it must be at least 1, for the last layer alone.")
    if layers > 1:
        try:
            sites(model)
        except ModelError as error:
            progress.note("embeddings of the last layer alone", reason=str(error))
            layers = 1
    tokenizer, length = model.tokenizer, min(max_length, model.window)
    rows: list[list[int]] = []
    for text, reply in pairs:
        if model.family == "encoder":
            rows.append(tokenizer(text, reply, truncation=True, max_length=length).input_ids)
        else:
            joined = text if reply is None else f"{text}\n{reply}"
            # An empty text has no token in some vocabularies, and a mean over nothing is no number.
            rows.append(tokenizer(joined, truncation=True, max_length=length).input_ids or [tokenizer.pad_token_id])
    found = np.zeros((len(rows), layers * model.hidden_size), dtype=np.float32)
    last = layer_count(model) - 1
    wanted = [last] if layers == 1 else [round(at) for at in np.linspace(last / 2, last, layers)]
    order = np.argsort([len(row) for row in rows], kind="stable")
    with torch.inference_mode():
        for begin in progress.track(range(0, len(order), batch_size), task="embed"):
            part = order[begin : begin + batch_size]
            ids, mask = padded(model, [rows[i] for i in part])
            seen = states(model, ids, mask, wanted)
            counted = mask.cpu()
            if model.family == "decoder":
                counted[:, 0] = counted.sum(1) == 1
            weights = counted[..., None] / counted.sum(1)[:, None, None]
            pooled = [(seen[layer].float().cpu() * weights).sum(1) for layer in wanted]
            beside = torch.cat([torch.nn.functional.normalize(one, dim=1) for one in pooled], dim=1)
            found[part] = (beside / layers**0.5).numpy()
    return found


def similarity_scores(
    train: Floats, train_y: npt.NDArray[np.int64], query: Floats, query_y: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Cosine with the sign of agreement [n, q]: plus for the query's label, minus for another one.

    The same shape and sign as influence: a near neighbour with another label is an opponent.

    Args:
        train, query: unit embeddings [n, D] and [q, D].
        train_y, query_y: label indices [n] and [q].
    """
    found = np.asarray(train @ query.T, dtype=np.float32)
    return np.negative(found, out=found, where=np.asarray(train_y)[:, None] != np.asarray(query_y)[None, :])


def nearest_opposite(
    embeddings: Floats,
    y: npt.NDArray[np.int64],
    *,
    among: Floats | None = None,
    among_y: npt.NDArray[np.int64] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each example the most similar one with another label: its position [n] and the cosine [n].

    Args:
        embeddings, y: unit embeddings [n, D] and label indices [n].
        among, among_y: where to look (default: the examples themselves).

    Returns:
        Position -1 and cosine NaN where no example has another label.

    Raises:
        TraceError: ``among`` without ``among_y`` or the reverse.
    """
    if (among is None) != (among_y is None):
        raise TraceError("give among and among_y together, or neither.")
    others, other_y = (embeddings, y) if among is None or among_y is None else (among, among_y)
    cosine = np.where(np.asarray(y)[:, None] == np.asarray(other_y)[None, :], -np.inf, embeddings @ others.T)
    where = cosine.argmax(axis=1)
    best = cosine[np.arange(len(cosine)), where]
    alone = ~np.isfinite(best)
    return np.where(alone, -1, where).astype(np.int64), np.where(alone, np.nan, best).astype(np.float32)
