"""How probable candidates are in the gap of a text, for decoders and masked models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch

from tracemend.arrays import Floats
from tracemend.errors import ProbeError
from tracemend.models import LanguageModel
from tracemend.models.representations import padded
from tracemend.models.tokens import word_tokens


def ends_in_gap(text: str) -> bool:
    """Whether nothing but a full stop stands behind [Y], so that a decoder can be asked."""
    return text.rstrip(" .").endswith("[Y]")


def tokens_of(model: LanguageModel, text: str) -> list[int]:
    """Tokens of a candidate as it stands behind a space.

    Raises:
        ProbeError: the tokenizer cannot make all of it.
        ModelError: or nothing of it.
    """
    found = word_tokens(model, text)
    # Byte-level vocabularies know every text, and name some other token as their unknown one.
    unknown = {model.tokenizer.unk_token_id} - {model.tokenizer.eos_token_id, None}
    if unknown & set(found):
        raise ProbeError(f"the tokenizer of {model.name} cannot make the candidate {text!r}; leave its facts out.")
    return found


def collisions(model: LanguageModel, candidates: Sequence[str]) -> list[str]:
    """Pairs of candidates that begin with the same token."""
    first = {c: tokens_of(model, c)[0] for c in candidates}
    return [f"{a} and {b}" for a, b in combinations(candidates, 2) if first[a] == first[b]]


def gap_scores(
    model: LanguageModel, texts: Sequence[str], candidates: Sequence[str], batch_size: int, *, k: int = 1
) -> tuple[Floats, list[list[int]]]:
    """Log-probability of every candidate in the gap of every text.

    Args:
        model: that gives probabilities of words.
        texts: with [Y] once each.
        candidates: of any number of tokens.
        batch_size: texts of a forward pass.
        k: how many of the likeliest first tokens are given.

    Returns:
        Log-probabilities [n, candidates], and the likeliest first tokens of each text, the likeliest first.
    """
    tokens = [tokens_of(model, c) for c in candidates]
    jobs: dict[tuple[int, ...], list[tuple[int, int, list[int]]]] = {}
    for i, text in enumerate(texts):
        for at, candidate in enumerate(tokens):
            ids, places = _row(model, text, candidate)
            # Candidates of one token share their text: it is read once.
            jobs.setdefault(tuple(ids), []).append((i, at, places))
    found = np.zeros((len(texts), len(candidates)))
    first: dict[int, list[int]] = {}
    rows = sorted(jobs, key=len)
    for begin in range(0, len(rows), batch_size):
        batch = rows[begin : begin + batch_size]
        ids_of, mask = padded(model, batch)
        with torch.inference_mode():
            logits = model.network(input_ids=ids_of, attention_mask=mask).logits
            for place, row in enumerate(batch):
                for i, at, places in jobs[row]:
                    said = logits[place, places].float().log_softmax(-1)
                    found[i, at] = sum(float(p[t]) for p, t in zip(said, tokens[at], strict=True))
                    # A masked model's first guess depends on how many masks there are: the fewest count.
                    if len(tokens[at]) == min(map(len, tokens)) and i not in first:
                        first[i] = said[0].topk(min(k, said.shape[1])).indices.tolist()
    return found, [first[i] for i in range(len(texts))]


def _row(model: LanguageModel, text: str, candidate: Sequence[int]) -> tuple[list[int], list[int]]:
    before, after = text.split("[Y]")
    tokenizer = model.tokenizer
    if model.family == "decoder":
        prefix = [int(tokenizer.bos_token_id), *tokenizer(before.rstrip(), add_special_tokens=False).input_ids]
        ids = [*prefix, *candidate[:-1]]
        # The logits at a place are about the token that follows.
        places = list(range(len(prefix) - 1, len(prefix) - 1 + len(candidate)))
    else:
        # A byte-level vocabulary would make a token of the space, which the candidate's first token holds.
        ids = tokenizer(before.rstrip() + tokenizer.mask_token * len(candidate) + after).input_ids
        places = [i for i, token in enumerate(ids) if token == tokenizer.mask_token_id]
    if len(ids) > model.window:
        raise ProbeError(f"{text[:40]!r} has {len(ids)} tokens and the window of {model.name} is {model.window}.")
    return ids, places
