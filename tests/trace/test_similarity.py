"""Embeddings do not depend on the batch, and similarity has the sign of influence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tracemend.data import Labelled
from tracemend.errors import TraceError
from tracemend.models import tiny
from tracemend.trace import embed, nearest_opposite, similarity_scores


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_embeddings_have_unit_length_and_do_not_depend_on_the_batch(data: Labelled, architecture: str) -> None:
    model = tiny(architecture)
    found = embed(model, data.pairs)
    assert found.shape == (len(data), model.hidden_size)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(found, np.concatenate([embed(model, [pair]) for pair in data.pairs]), atol=1e-5)
    np.testing.assert_allclose(found, embed(model, data.pairs, batch_size=2), atol=1e-5)


def test_the_reply_counts_and_long_texts_are_cut() -> None:
    model = tiny("gpt2")
    a, b, c = embed(model, [("good", None), ("good", "bad"), ("good " * 500, None)])
    assert not np.allclose(a, b)
    assert np.isfinite(c).all()


def test_an_empty_text_has_an_embedding() -> None:
    assert np.isfinite(embed(tiny("gpt2"), [("", None)])).all()


def test_a_decoders_first_token_does_not_drown_the_text() -> None:
    """Its state is the same in every text and far longer than the others'."""
    model = tiny("gpt2")
    network: Any = model.network
    massive = 1e4 * torch.ones(model.hidden_size)
    massive[::2] *= -1  # a layer norm would take out what all numbers share
    with torch.no_grad():
        network.transformer.wpe.weight[0] += massive
    found = embed(model, [("good day", None), ("a bad night", None)], layers=2)
    middle = found[:, : model.hidden_size] * 2**0.5  # behind the last block stands a norm, which sees to it there
    assert middle[0] @ middle[1] < 0.9


def test_similarity_is_signed_by_the_label() -> None:
    e = np.array([[1.0, 0.0], [0.6, 0.8]])
    found = similarity_scores(e, np.array([0, 1]), e[:1], np.array([0]))
    np.testing.assert_allclose(found, [[1.0], [-0.6]], rtol=1e-6)


def test_the_nearest_opposite_has_another_label() -> None:
    e = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    where, cosine = nearest_opposite(e, np.array([0, 0, 1, 1]))
    assert where.tolist() == [2, 2, 1, 1]
    np.testing.assert_allclose(cosine, [0.6, 0.96, 0.96, 0.6], rtol=1e-6)
    where, cosine = nearest_opposite(e, np.zeros(4, dtype=int))
    assert where.tolist() == [-1] * 4
    assert np.isnan(cosine).all()
    with pytest.raises(TraceError, match="together"):
        nearest_opposite(e, np.zeros(4, dtype=int), among=e)
