"""DataInf and EK-FAC are what their formulas say, by dense linear algebra in double precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trace.scoring.conftest import LAYOUT, HeldStore, gradients_of, rows_of
from tracemend.errors import TraceError
from tracemend.trace.gradients.layout import Layout, Part, expand, lay_out
from tracemend.trace.scoring import DataInf, EkFac, HeldQueries, Score, TracInScore, score

MATRIX = lay_out([Part("A", (3, 4), "layer.0")])


def matrix(store: HeldStore, queries: HeldQueries, how: Score, path: Path) -> np.ndarray:
    name = f"{len(list(path.iterdir()))}.npy"
    return np.array(score(store, queries, how, dense=path / name).matrix())


def dense(rows: Tensor, layout: Layout = LAYOUT) -> tuple[Tensor, Layout]:
    return expand(rows.double(), layout)


def test_datainf_is_its_formula(store: HeldStore, queries: HeldQueries, tmp_path: Path) -> None:
    g, layout = dense(store.grads[2])
    q, _ = dense(queries.parts[2].grads)
    expected = np.zeros((25, 6))
    for block in layout:
        own, asked = g[:, block.columns], q[:, block.columns]
        damping = 0.1 * own.square().mean()
        inverses = [torch.linalg.inv(torch.outer(x, x) + damping * torch.eye(block.size).double()) for x in own]
        expected += (own @ torch.stack(inverses).mean(0) @ asked.T).numpy()
    found = matrix(store, queries, DataInf(), tmp_path)
    np.testing.assert_allclose(found, 2.0 * expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    # The control: the plain product says something else.
    plain = matrix(
        store, queries, TracInScore(checkpoints="last", normalise_train=False, normalise_query=False), tmp_path
    )
    assert np.corrcoef(found.ravel(), plain.ravel())[0, 1] < 0.999


def test_datainf_is_the_exact_inverse_where_there_is_one_example(tmp_path: Path) -> None:
    store = HeldStore([rows_of(1, 0, MATRIX)], MATRIX, weights=[1.0])
    queries = HeldQueries([gradients_of(rows_of(3, 1, MATRIX), MATRIX)])
    g, q = store.grads[0].double(), queries.parts[0].grads.double()
    fisher = g.T @ g + 0.1 * g.square().mean() * torch.eye(12)
    expected = (g @ torch.linalg.solve(fisher, q.T)).numpy()
    np.testing.assert_allclose(matrix(store, queries, DataInf(), tmp_path), expected, rtol=1e-4)


def test_a_block_without_gradients_weighs_nothing(queries: HeldQueries, tmp_path: Path) -> None:
    dead = LAYOUT[1]
    rows = rows_of(25, 0)
    rows[:, dead.columns] = 0
    store = HeldStore([rows])

    for how in (DataInf(), EkFac()):
        found = matrix(store, queries, how, tmp_path)
        assert np.isfinite(found).all() and np.abs(found).max() > 0


def kronecker(n_out: int = 3, n_in: int = 4) -> tuple[Tensor, Tensor]:
    """Gradients whose second moment is exactly a Kronecker product, and that product."""
    generator = torch.Generator().manual_seed(5)
    left, right = (torch.randn(s, s, generator=generator).double() for s in (n_out, n_in))
    units = torch.eye(n_out * n_in).double().reshape(-1, n_out, n_in) * (n_out * n_in) ** 0.5
    rows = (left @ units @ right).flatten(1)
    return rows, torch.kron(left @ left.T, right.T @ right)


def test_ekfac_is_the_inverse_fisher_where_that_is_a_kronecker_product(tmp_path: Path) -> None:
    rows, fisher = kronecker()
    torch.testing.assert_close(rows.T @ rows / len(rows), fisher)
    store = HeldStore([rows.float()], MATRIX, weights=[1.0], shard_rows=5)
    queries = HeldQueries([gradients_of(rows_of(3, 1, MATRIX), MATRIX)])
    damped = fisher + 0.1 * fisher.diagonal().mean() * torch.eye(12)
    expected = (rows @ torch.linalg.solve(damped, queries.parts[0].grads.double().T)).numpy()
    found = matrix(store, queries, EkFac(), tmp_path)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    # The control: without the bases the same eigenvalues invert something else.
    flat = matrix(store, queries, EkFac(widest=1), tmp_path)
    diagonal = rows @ (queries.parts[0].grads.double() / (rows.square().mean(0) + damped.diagonal().mean() / 11)).T
    assert np.abs(flat - expected).max() > 0.05 * np.abs(expected).max()
    np.testing.assert_allclose(flat, diagonal.numpy(), rtol=1e-3, atol=1e-4 * float(diagonal.abs().max()))


def test_ekfac_treats_vectors_exactly(tmp_path: Path) -> None:
    layout = lay_out([Part("l", (5,), "layer.0")])
    store = HeldStore([rows_of(25, 0, layout)], layout, weights=[1.0])
    queries = HeldQueries([gradients_of(rows_of(3, 1, layout), layout)])
    g = store.grads[0].double()
    fisher = g.T @ g / 25
    damped = fisher + 0.1 * fisher.diagonal().mean() * torch.eye(5)
    expected = (g @ torch.linalg.solve(damped, queries.parts[0].grads.double().T)).numpy()
    np.testing.assert_allclose(matrix(store, queries, EkFac(), tmp_path), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("how", [DataInf(damping=1e6), EkFac(damping=1e6)], ids=["datainf", "ekfac"])
def test_much_damping_leaves_the_plain_product(tmp_path: Path, how: Score) -> None:
    store = HeldStore([rows_of(25, 0, MATRIX)], MATRIX, weights=[1.0])
    queries = HeldQueries([gradients_of(rows_of(3, 1, MATRIX), MATRIX)])
    g = store.grads[0].double()
    plain = (g @ queries.parts[0].grads.double().T).numpy() / (1e6 * float(g.square().mean()))
    np.testing.assert_allclose(matrix(store, queries, how, tmp_path), plain, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("how", [DataInf, EkFac])
def test_small_blocks_and_parts_give_the_same(
    store: HeldStore, queries: HeldQueries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: type[Score]
) -> None:
    both = how(parts=("layer.0", "head"), normalise_train=True, normalise_query=True)
    whole = matrix(store, queries, both, tmp_path)
    assert np.abs(whole).max() <= 2.0 + 1e-5  # cosines, times the checkpoint's weight
    monkeypatch.setattr("tracemend.trace.scoring.stored.ROWS", 2)
    monkeypatch.setattr("tracemend.trace.scoring.stored._READ", 1)
    np.testing.assert_allclose(matrix(store, queries, both, tmp_path), whole, rtol=1e-3, atol=1e-5)
    other = matrix(store, queries, how(normalise_train=True, normalise_query=True), tmp_path)
    assert np.abs(other - whole).max() > 0.01


def test_the_damping_must_be_positive() -> None:
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(TraceError, match="must be positive"):
            DataInf(damping=wrong)
        with pytest.raises(TraceError, match="must be positive"):
            EkFac(damping=wrong)
    with pytest.raises(TraceError, match="at least 1"):
        EkFac(widest=0)
