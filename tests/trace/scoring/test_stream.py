"""Streamed scores are the formula over all rows at once, whatever the blocks, and go on where they stopped."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trace.scoring.conftest import LAYOUT, HeldStore, gradients_of, rows_of
from tracemend.errors import RunError, TraceError
from tracemend.trace.gradients.layout import expand
from tracemend.trace.scoring import HeldQueries, TracInScore, score
from tracemend.trace.scoring.stored import kept


def moments() -> dict[str, torch.Tensor]:
    found = {b.name: torch.rand(b.shape) for b in LAYOUT if b.kind == "dense"}
    return {**found, "head.weight": torch.rand(3, 4), "head.bias": torch.rand(3)}


def explicit(store: HeldStore, queries: HeldQueries, how: TracInScore) -> np.ndarray:
    """The formula, written out in double precision over dense rows."""
    total = np.zeros((len(store.rows), len(queries.uid)))
    names = {b.name for b in kept(LAYOUT, how.parts)}
    for c in how.numbers(store):
        g, layout = expand(store.grads[c].double(), LAYOUT)
        q, _ = expand(queries.parts[c].grads.double(), LAYOUT)
        columns = [b.columns for b in layout if b.name.removesuffix(".weight").removesuffix(".bias") in names]
        g, q = (torch.cat([side[:, at] for at in columns], dim=1) for side in (g, q))
        d = torch.ones(g.shape[1], dtype=torch.double)
        if how.optimizer == "adam":
            held = store.moments[c]
            step = store.manifest["checkpoints"][c]["step"]
            v = torch.cat([held[b.name].flatten() for b in layout if b.columns in columns]).double()
            d = 1 / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
        found = (g * d) @ q.T
        if how.normalise_train:
            found = found / (g * d * g).sum(1).sqrt()[:, None]
        if how.normalise_query:
            found = found / (q * d * q).sum(1).sqrt()[None, :]
        total += store.manifest["checkpoints"][c]["lr_sum"] * found.numpy()
    return total


def matrix(store: HeldStore, queries: HeldQueries, how: TracInScore, path: Path, **options: int) -> np.ndarray:
    return np.array(score(store, queries, how, dense=path / "scores.npy", **options).matrix())


@pytest.mark.parametrize("parts", [(), ("head",), ("layer",), ("layer.0", "head")], ids=str)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("train", "query"), [(False, False), (True, True), (True, False), (False, True)])
def test_scores_are_the_formula(
    store: HeldStore, queries: HeldQueries, tmp_path: Path, parts: tuple[str, ...], optimizer: str, train: bool,
    query: bool,
) -> None:  # fmt: skip
    store.moments = [moments() for _ in range(3)]
    how = TracInScore(normalise_train=train, normalise_query=query, optimizer=optimizer, parts=parts)
    expected = explicit(store, queries, how)
    np.testing.assert_allclose(
        matrix(store, queries, how, tmp_path), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
    )


def test_the_last_checkpoint_alone(store: HeldStore, queries: HeldQueries, tmp_path: Path) -> None:
    how = TracInScore(checkpoints="last")
    np.testing.assert_allclose(
        matrix(store, queries, how, tmp_path), explicit(store, queries, how), rtol=1e-4, atol=1e-6
    )
    assert {c for c, _ in store.reads} == {2}


def test_small_blocks_give_the_same(
    store: HeldStore, queries: HeldQueries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = TracInScore(normalise_train=False)
    whole = score(store, queries, how, top=4, dense=tmp_path / "a" / "scores.npy")
    once = len(store.reads)
    monkeypatch.setattr("tracemend.trace.scoring.stored.ROWS", 3)
    monkeypatch.setattr("tracemend.trace.scoring.product._COLUMNS", 4)
    small = score(store, queries, how, top=4, dense=tmp_path / "b" / "scores.npy", memory=1)
    assert len(store.reads) - once > 6 * once
    np.testing.assert_allclose(small.matrix(), whole.matrix(), rtol=1e-5, atol=1e-6)
    assert small.strongest()["uid"].tolist() == whole.strongest()["uid"].tolist()


def test_bfloat16_rows_are_multiplied_in_float32(queries: HeldQueries, tmp_path: Path) -> None:
    rounded = [rows_of(25, seed).bfloat16() for seed in range(3)]
    rough = HeldStore(rounded, dtype="bfloat16")
    exact = HeldStore([rows.float() for rows in rounded])
    how = TracInScore(normalise_train=False)
    expected = explicit(exact, queries, how)
    found = matrix(rough, queries, how, tmp_path)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_checkpoints_are_innermost(store: HeldStore, queries: HeldQueries) -> None:
    score(store, queries)
    assert store.reads == [(c, s) for s in range(4) for c in range(3)]


def test_an_interrupted_matrix_goes_on(store: HeldStore, queries: HeldQueries, tmp_path: Path) -> None:
    path = tmp_path / "scores.npy"
    undisturbed = score(store, queries, top=4, dense=tmp_path / "whole.npy")
    store.fails_at = 2
    with pytest.raises(KeyboardInterrupt):
        score(store, queries, top=4, dense=path)
    assert not path.exists()
    store.fails_at, store.reads = -1, []
    found = score(store, queries, top=4, dense=path)
    # A block is kept when the next one has begun: shard 0 at least was not computed again.
    assert 0 not in {s for _, s in store.reads} and 3 in {s for _, s in store.reads}
    assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert found.strongest().equals(undisturbed.strongest())
    assert found.per_train().equals(undisturbed.per_train())
    assert {p.name for p in tmp_path.iterdir()} == {
        "scores.npy", "scores.npy.json", "whole.npy", "whole.npy.json",
    }  # fmt: skip


def test_a_finished_matrix_is_read_back(store: HeldStore, queries: HeldQueries, tmp_path: Path) -> None:
    first = score(store, queries, top=3, dense=tmp_path / "s.npy")
    store.reads = []
    again = score(store, queries, top=3, dense=tmp_path / "s.npy")
    assert store.reads == []
    assert again.strongest().equals(first.strongest())


def test_a_line_that_a_kill_cut_short_is_no_block(store: HeldStore, queries: HeldQueries, tmp_path: Path) -> None:
    store.fails_at = 3
    with pytest.raises(KeyboardInterrupt):
        score(store, queries, dense=tmp_path / "s.npy")
    log = tmp_path / ".s.npy.done"
    log.write_text(log.read_text("utf-8")[:-1], "utf-8")
    store.fails_at, store.reads = -1, []
    score(store, queries, dense=tmp_path / "s.npy")
    assert {s for _, s in store.reads} == {1, 2, 3}


def test_a_matrix_of_something_else_is_left_alone(store: HeldStore, queries: HeldQueries, tmp_path: Path) -> None:
    path = tmp_path / "s.npy"
    score(store, queries, dense=path)
    before = path.read_bytes()
    with pytest.raises(TraceError, match="scores of something else"):
        score(store, queries, TracInScore(normalise_query=False), dense=path)
    with pytest.raises(TraceError, match="scores of something else"):
        score(store, HeldQueries([gradients_of(rows_of(5, 1))] * 3), dense=path)
    (tmp_path / "mine.npy").write_bytes(b"mine")
    with pytest.raises(TraceError, match="not written by a scoring"):
        score(store, queries, dense=tmp_path / "mine.npy")
    assert path.read_bytes() == before and (tmp_path / "mine.npy").read_bytes() == b"mine"


def test_a_full_disk_is_told_before_anything_is_scored(
    store: HeldStore, queries: HeldQueries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", full)
        with pytest.raises(RunError, match="cannot be written"):
            score(store, queries, dense=tmp_path / "s.npy")
    assert list(tmp_path.iterdir()) == [] and store.reads == []
    assert score(store, queries, dense=tmp_path / "s.npy").matrix().shape == (25, 6)


def test_rows_that_are_not_those_of_the_data_are_an_error(store: HeldStore, queries: HeldQueries) -> None:
    store.rows["row"] += 1
    with pytest.raises(TraceError, match="not numbered from 0 to 24"):
        score(store, queries)


def test_what_cannot_be_scored_is_an_error(store: HeldStore, queries: HeldQueries) -> None:
    with pytest.raises(TraceError, match="at least 1"):
        score(store, queries, top=0)
    with pytest.raises(TraceError, match="traced in another way"):
        score(store, HeldQueries([gradients_of(rows_of(2, 1, LAYOUT[:1]), LAYOUT[:1])] * 3))
    with pytest.raises(TraceError, match="gradients at 1 checkpoints"):
        score(store, HeldQueries(queries.parts[:1]))
    with pytest.raises(TraceError, match="no query"):
        HeldQueries([])
    with pytest.raises(TraceError, match="did you mean 'head'"):
        score(store, queries, TracInScore(parts=("heat",)))
    with pytest.raises(TraceError, match="no second moment"):
        score(store, queries, TracInScore(optimizer="adam"))
    store.gone = {1: [2]}
    with pytest.raises(TraceError, match="lacks 1 of 4 shards of checkpoint 1"):
        score(store, queries)
