"""Projected gradients: smaller rows, inner products that hold on average, the same signs everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tracemend.data import Labelled
from tracemend.errors import TraceError
from tracemend.models import tiny
from tracemend.trace.gradients import Projection, per_example_gradients
from tracemend.trace.gradients.layout import Part, lay_out
from tracemend.trace.scoring import DataInf, Score, TracedQueries, TracInScore, score
from tracemend.trace.store import GradientStore
from tracemend.tuning import TextClassifier, Tuned, Tuning, tune

LAYOUT = lay_out(
    [
        Part("layer.0.A", (2, 40), "layer.0"),
        Part("layer.0.B", (30, 2), "layer.0"),
        Part("layer.0.l", (50,), "layer.0"),
        Part("head", (3, 41), "head", "outer"),
    ]
)


def test_only_the_long_sides_of_matrices_are_shortened() -> None:
    shapes = [block.shape for block in Projection(width=10).layout(LAYOUT)]
    assert shapes == [(2, 10), (10, 2), (50,), (3, 41)]
    assert [block.shape for block in Projection(width=35).layout(LAYOUT)][:2] == [(2, 35), (30, 2)]


def test_inner_products_hold_on_average_with_the_stated_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    width = LAYOUT[-1].columns.stop
    g, q = torch.randn(2, width, generator=generator)
    found = torch.stack(
        [
            torch.stack([*Projection(width=8, seed=s).rows(torch.stack([g, q]), LAYOUT)]).prod(0).sum()
            for s in range(600)
        ]
    )
    spread = float((2 / 8) ** 0.5 * g.norm() * q.norm())
    assert abs(float(found.mean() - g @ q)) < 4 * spread / 600**0.5
    assert float(found.std()) <= 1.1 * spread


def test_signs_depend_on_seed_and_name_alone() -> None:
    rows = torch.randn(2, LAYOUT[-1].columns.stop)
    alone = lay_out([Part("layer.0.B", (30, 2), "layer.0")])
    projected = Projection(width=8).rows(rows, LAYOUT)
    again = Projection(width=8).rows(rows[:, LAYOUT[1].columns], alone)
    assert torch.equal(projected[:, Projection(width=8).layout(LAYOUT)[1].columns], again)
    assert not torch.equal(projected, Projection(width=8, seed=1).rows(rows, LAYOUT))


def test_signs_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, projection = torch.randn(2, LAYOUT[-1].columns.stop), Projection(width=8, seed=12)
    first = projection.rows(rows, LAYOUT)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: 1 / 0)
    assert torch.equal(first, Projection(width=8, seed=12).rows(rows, LAYOUT))


@pytest.fixture
def tuned(data: Labelled) -> Tuned:
    tuning = Tuning(adapter="lora", epochs=2, batch_size=3, rank=2, max_length=32, patience=0, precision="fp32")
    return tune(tiny("bert"), data, data, tuning)


def built(tuned: Tuned, data: Labelled, path: Path, **options: object) -> GradientStore:
    return GradientStore.build(path, tuned.classifier, data, tuned.checkpoints, dtype="float32", **options)


@pytest.mark.parametrize(
    "how", [TracInScore(), TracInScore(parts=("layer",)), DataInf()], ids=["all", "layer", "datainf"]
)
def test_scores_from_a_projected_store_follow_the_exact_ones(
    tuned: Tuned, data: Labelled, tmp_path: Path, how: Score
) -> None:
    queries = TracedQueries(tuned.classifier, data.take([1, 4]), tuned.checkpoints)
    exact = score(built(tuned, data, tmp_path / "whole"), queries, how, dense=tmp_path / "whole.npy").matrix()
    store = built(tuned, data, tmp_path / "less", project=8)
    found = score(store, queries, how, dense=tmp_path / "less.npy").matrix()
    assert store.width < built(tuned, data, tmp_path / "whole").width
    assert np.corrcoef(exact.ravel(), found.ravel())[0, 1] > 0.9
    assert np.abs(exact - found).max() > 0


def test_curvature_is_damped_as_that_of_whole_matrices(tuned: Tuned, data: Labelled, tmp_path: Path) -> None:
    queries = TracedQueries(tuned.classifier, data.take([1, 4]), tuned.checkpoints)
    exact, found = (
        score(built(tuned, data, tmp_path / f"{width}", project=width), queries, DataInf()).each.highest.mean()
        for width in (None, 8)
    )
    assert 0.8 < found / exact < 1.25


def test_norms_and_losses_are_those_of_the_whole_gradients(tuned: Tuned, data: Labelled, tmp_path: Path) -> None:
    whole, less = built(tuned, data, tmp_path / "whole"), built(tuned, data, tmp_path / "less", project=4)
    for name in ("norm", "loss", "logits", "rows"):
        np.testing.assert_array_equal(getattr(whole.read(0, 0), name), getattr(less.read(0, 0), name))


def test_a_projection_is_part_of_what_a_store_is(tuned: Tuned, data: Labelled, tmp_path: Path) -> None:
    assert built(tuned, data, tmp_path / "store", project=8).summary()["projection"] == {"width": 8, "seed": 0}
    with pytest.raises(TraceError, match="projection"):
        built(tuned, data, tmp_path / "store", project=9)
    with pytest.raises(TraceError, match="projection"):
        built(tuned, data, tmp_path / "store")
    with pytest.raises(TraceError, match="at least 1"):
        built(tuned, data, tmp_path / "other", project=0)


def test_a_store_tells_how_it_goes_on(tuned: Tuned, data: Labelled, tmp_path: Path) -> None:
    store = built(tuned, data, tmp_path, project=8, seed=3)
    again = GradientStore.build(tmp_path, tuned.classifier, data, tuned.checkpoints, **store.options)
    assert again.manifest == store.manifest


def test_edits_of_a_projected_store_are_projected(tuned: Tuned, data: Labelled, tmp_path: Path) -> None:
    parent = built(tuned, data, tmp_path / "parent", project=8)
    edited = data.relabelled({data.uid[0]: next(label for label in data.labels if label != data.frame["label"][0])})
    child = parent.edited(tmp_path / "child", tuned.classifier, edited, tuned.checkpoints)
    fresh = built(tuned, edited, tmp_path / "fresh", project=8)
    queries = TracedQueries(tuned.classifier, data.take([1, 4]), tuned.checkpoints)
    found, expected = (
        score(store, queries, dense=tmp_path / f"{name}.npy").matrix()
        for name, store in (("child", child), ("fresh", fresh))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_adam_is_refused_with_a_remedy(tuned: Tuned, data: Labelled, tmp_path: Path) -> None:
    store = built(tuned, data, tmp_path, project=8)
    with pytest.raises(TraceError, match="optimizer sgd"):
        score(store, TracedQueries(tuned.classifier, data.take([1]), tuned.checkpoints), TracInScore(optimizer="adam"))


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("bert", "full"), ("bert", "lora"), ("bert", "head"), ("llama", "full"), ("gpt2", "full")],
)
@pytest.mark.parametrize("width", [4, 40])
def test_gradients_projected_on_the_way_are_the_whole_ones_projected(
    make: Callable[..., TextClassifier], data: Labelled, architecture: str, kind: str, width: int
) -> None:
    classifier = make(architecture, kind)
    whole = per_example_gradients(classifier, data, batch_size=3)
    found = per_example_gradients(classifier, data, batch_size=3, project=width)
    wanted = Projection(width=width).gradients(whole)
    assert {b.name: b.shape for b in found.layout} == {b.name: b.shape for b in wanted.layout}
    ours = {block.name: found.grads[:, block.columns] for block in found.layout}
    for block in wanted.layout:
        torch.testing.assert_close(ours[block.name], wanted.grads[:, block.columns], rtol=1e-3, atol=1e-4)
