"""Heads taken from a classifier: importance by finite differences, and what is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tracemend.data import Labelled
from tracemend.errors import DataError, ProbeError
from tracemend.evaluate import mean_interval
from tracemend.models import edit, tiny
from tracemend.probing import HeadPatterns, HeadPruning
from tracemend.probing.drawn_maps import KINDS
from tracemend.progress import Progress
from tracemend.tuning import TextClassifier

NAMES = [f"blocks.{i}.attn.hook_z" for i in range(2)]


def test_importance_is_the_derivative_by_a_gate():
    method, model, data = HeadPruning.tiny()
    few = data.take(range(6))
    found = replace(method, batch_size=4)._importance(model, NAMES, few, few.y, Progress())
    assert found.shape == (2, 4)

    def losses(head, gate):
        def gated(z):
            z[:, :, head % 4] *= gate
            return z

        rows, _ = model.encode(few.pairs)
        with torch.no_grad(), edit(model.network, {NAMES[head // 4]: gated}):
            return model.measure(model.batch(rows), torch.as_tensor(few.y))[0].numpy()

    for head in range(8):
        slope = (losses(head, 1.01) - losses(head, 0.99)) / 0.02
        assert found.ravel()[head] == pytest.approx(np.abs(slope).mean(), rel=0.02, abs=1e-5)


def test_no_group_lies_in_both_halves_and_intervals_resample_groups(monkeypatch):
    method, model, data = HeadPruning.tiny()
    names = [f"g{i // 5}" if i < 30 else None for i in range(len(data))]
    texts, labels = (data.frame[column] for column in ("text", "label"))
    grouped = Labelled.make(texts, labels, groups=names)
    weighing, test = method._halves(model, grouped)
    ours, others = ({g for g in of.frame["group"] if g} for of in (weighing, test))
    assert ours and others and not ours & others and 15 <= len(weighing) <= 20 <= len(weighing) + len(test)
    # Without groups the halves are single texts, as many in each.
    assert [len(of) for of in method._halves(model, data)] == [20, 20]
    with pytest.raises(DataError, match="of one group, which cannot be divided"):
        method._halves(model, Labelled.make(texts, labels, groups=["g"] * len(data)))
    asked = []

    def watched(values, groups=None, **given):
        asked.append(groups)
        return mean_interval(values, groups, **given)

    monkeypatch.setattr("tracemend.probing.head_pruning.mean_interval", watched)
    replace(method, maps=0, draws=1, shares=(0.5,)).run(model, grouped)
    assert asked and all(groups == test.group_ids.tolist() for groups in asked)


def test_by_layer_every_layer_has_the_same_norm():
    method, model, data = HeadPruning.tiny()
    found = replace(method, by_layer=True)._importance(model, NAMES, data, data.y, Progress())
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)


def test_a_head_is_taken_by_its_slice_before_the_output_projection():
    method, model, data = HeadPruning.tiny()
    taken = method._measured(model, NAMES, [5], 4, data)
    weight = model.network.base_model.model.encoder.encoder.layer[1].attention.output.dense.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[:, 8:16] = 0
    try:
        by_weight = method._measured(model, NAMES, [], 4, data)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    np.testing.assert_allclose(taken, by_weight, atol=1e-6)
    assert not np.allclose(taken, method._measured(model, NAMES, [], 4, data))


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "t5"])
def test_decoders_and_grouped_queries(architecture):
    method, _, data = HeadPruning.tiny()
    found = method.run(TextClassifier(tiny(architecture), data.labels, rank=2), data)
    assert len(found.facts["pattern"]) == 8 and found.facts["heads"] == 8 and len(found.facts["importance"]) == 8


def test_the_least_important_head_is_taken_first():
    method, model, data = HeadPruning.tiny()
    one = replace(method, shares=(1 / 8, 1 / 2))
    found = one.run(model, data)
    assert set(found.controls) == {"random", "most_important", "shuffled_labels", "whole"}
    weighed = [float(v) for v in found.facts["importance"].values()]
    _, test = one._halves(model, data)
    for arm, head in ((found.metrics, np.argmin(weighed)), (found.controls["most_important"], np.argmax(weighed))):
        hits, losses = one._measured(model, NAMES, [int(head)], 4, test)
        assert arm["loss_12"] == pytest.approx(losses.mean()) and arm["accuracy_12"] == hits.mean()
    assert found.controls["whole"]["loss_12"] == found.controls["whole"]["loss_50"]


def test_heads_are_taken_by_their_pattern(monkeypatch):
    method, model, data = HeadPruning.tiny()
    kinds = ["vertical", "uniform", "vertical", "uniform", "uniform", "uniform", "uniform", "block"]
    monkeypatch.setattr(HeadPatterns, "named", lambda self, model, data, progress: kinds)
    found = method.run(model, data)
    assert list(found.facts["pattern"].values()) == kinds
    _, test = method._halves(model, data)
    for kind, heads in (("vertical", [0, 2]), ("block", [7]), ("uniform", [1, 3, 4, 5, 6])):
        hits, losses = method._measured(model, NAMES, heads, 4, test)
        assert found.metrics[f"loss_{kind}"] == pytest.approx(losses.mean())
        assert found.metrics[f"accuracy_{kind}"] == hits.mean()
        rows = found.rows.set_index(["order", "heads"])
        assert rows["loss"]["random", len(heads)] == found.controls["random"][f"loss_{kind}"]
        assert found.controls["whole"][f"loss_{kind}"] == found.controls["whole"]["loss_50"]
    assert sum("heads beats taking as many" in said or "heads is " in said for said in found.findings) >= 3
    assert "all vertical heads" in [line.get_label() for line in found.figure().axes[0].lines]


def test_patterns_are_those_of_the_tuned_network():
    method, model, data = HeadPruning.tiny()
    weighing, _ = method._halves(model, data)
    kinds = method._kinds(model, weighing, Progress())
    assert len(kinds) == 8 and set(kinds) <= set(KINDS)
    without = replace(method, maps=0).run(model, data)
    assert without.facts["pattern"] == {} and set(without.metrics) == set(without.controls["most_important"])


def test_bad_input():
    method, model, data = HeadPruning.tiny()
    with pytest.raises(ProbeError, match="tuned TextClassifier, not LanguageModel"):
        method.run(model.language_model, data)
    with pytest.raises(ProbeError, match="labels are a, b and the classifier's bad, good"):
        method.run(model, Labelled.make(["x", "y"] * 4, ["a", "b"] * 4))
    with pytest.raises(DataError, match="at least 4"):
        method.run(model, data.take([0, 1, 2]))
    with pytest.raises(ProbeError, match="each between 0 and 1"):
        replace(method, shares=(1.0,)).run(model, data)
    with pytest.raises(ProbeError, match="maps is -1; it must be at least 0"):
        replace(method, maps=-1).run(model, data)
    with pytest.raises(ProbeError, match="one half hold 10 words"):
        replace(method, texts=5).run(model, data)
