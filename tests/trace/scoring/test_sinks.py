"""The strongest rows are exact whatever the blocks, and what a row comes to is what its scores say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trace.scoring.conftest import HeldStore
from tracemend.errors import TraceError
from tracemend.trace.scoring import HeldQueries, score
from tracemend.trace.scoring.sinks import Extremes


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 12), st.booleans())
def test_extremes_do_not_depend_on_the_blocks(seed: int, k: int, block: int, lowest: bool) -> None:
    rng = np.random.default_rng(seed)
    # Few values, so that ties are everywhere.
    scores = rng.integers(-2, 3, (30, 4)).astype(np.float32)
    rows = rng.permutation(30)
    found = Extremes(4, k, lowest=lowest)
    for at in range(0, 30, block):
        part = rows[at : at + block]
        for queries in (slice(0, 3), slice(3, 4)):
            found.take(part, queries, torch.from_numpy(scores[part][:, queries]))
    for query in range(4):
        expected = np.argsort(scores[:, query] * (1 if lowest else -1), kind="stable")[:k]
        assert found.rows[query].tolist() == expected.tolist()
        assert found.scores[query].tolist() == scores[expected, query].tolist()


def test_fewer_rows_than_k_leave_places_empty() -> None:
    found = Extremes(1, 4)
    found.take(np.array([1, 0]), slice(0, 1), torch.tensor([[1.0], [2.0]]))
    assert found.rows.tolist() == [[0, 1, -1, -1]]
    assert found.scores[0, :2].tolist() == [2.0, 1.0] and np.isnan(found.scores[0, 2:]).all()


def test_tables_say_what_the_matrix_says(store: HeldStore, queries: HeldQueries, tmp_path) -> None:
    found = score(store, queries, top=4, dense=tmp_path / "s.npy")
    scores = found.matrix()
    table = found.per_train()
    assert table["row"].tolist() == list(range(25)) and table["uid"].tolist() == [f"u{i}" for i in range(25)]
    np.testing.assert_allclose(table["mean"], scores.mean(axis=1), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(table["max"], scores.max(axis=1))
    np.testing.assert_array_equal(table["min"], scores.min(axis=1))
    lowest = np.argsort(scores, axis=0, kind="stable")[:4]
    assert table["votes"].tolist() == [int((lowest == i).sum()) for i in range(25)]
    assert table["votes"].sum() == 4 * 6
    best = found.top("q2", 3)
    assert list(best.columns) == ["rank", "row", "uid", "label", "score"]
    assert best["row"].tolist() == np.argsort(-scores[:, 2], kind="stable")[:3].tolist()
    assert found.bottom(2)["row"].tolist() == lowest[:, 2].tolist()
    assert len(found.strongest()) == 2 * 6 * 4


def test_tables_refuse_what_is_not_there(store: HeldStore, queries: HeldQueries) -> None:
    found = score(store, queries, top=4)
    with pytest.raises(TraceError, match="no query has the uid 'x'"):
        found.top("x")
    with pytest.raises(TraceError, match="query 6 does not exist"):
        found.bottom(6)
    with pytest.raises(TraceError, match="5 examples a query were asked for and 4 were kept"):
        found.top(0, 5)
    with pytest.raises(TraceError, match="was not kept"):
        found.matrix()
    assert len(score(store, queries, top=99).top(0)) == 25
