"""Traces of attention against the effects of deletion: both by hand on small cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tracemend.data import Treebank
from tracemend.errors import ModelError, ProbeError
from tracemend.models import align, tiny
from tracemend.models.attention import read_attention, rollout
from tracemend.probing import AttentionTrace
from tracemend.probing.attention_trace import TRACES, _correlation, _moved, _weights, _without

WORDS = ("my", "xq", "film", "is", "good")


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
def test_weights_of_words_are_those_of_their_tokens(architecture):
    model = tiny(architecture)
    aligned = align(model, [WORDS])
    ids, unit = aligned.ids[0], aligned.unit[0]
    found = _weights(model, ids, unit, len(WORDS))
    inputs = {"input_ids": torch.tensor([ids])}
    with torch.no_grad():
        layers = read_attention(model, lambda: model.network(**inputs)).layers
    start = torch.full((1, len(ids)), 1 / len(ids))
    if architecture != "bert":
        start = torch.eye(len(ids))[-1:]
    tokens = rollout(layers, start)[0].double().numpy()
    for k in range(len(WORDS)):
        assert found["rollout"][k] == pytest.approx(tokens[unit == k].sum())
    for trace in TRACES:
        # What goes to special tokens is nobody's.
        assert found[trace].sum() <= 1 + 1e-5
    assert found["tokens"].sum() == (unit >= 0).sum()


def test_deletion_masks_where_there_is_a_mask_and_else_takes_out():
    for architecture in ("bert", "gpt2"):
        model = tiny(architecture)
        aligned = align(model, [WORDS])
        ids, unit = aligned.ids[0], aligned.unit[0]
        found = _without(model, ids, unit, [1, 2])
        gone = np.isin(unit, [1, 2])
        if architecture == "bert":
            mask = model.tokenizer.mask_token_id
            assert found == [mask if out else token for token, out in zip(ids, gone, strict=True)]
        else:
            assert found == [token for token, out in zip(ids, gone, strict=True) if not out]


def test_what_moves_the_output():
    encoder, decoder = tiny("bert"), tiny("gpt2")
    rows = [encoder.tokenizer(t).input_ids for t in ("my film is good", "my film is good", "my film is bad")]
    same, other = _moved(encoder, rows)
    assert same == pytest.approx(0, abs=1e-6) and other > 1e-4
    rows = [decoder.tokenizer(t).input_ids for t in ("my film is", "my film", "you hate")]
    with torch.no_grad():
        said = [decoder.network(input_ids=torch.tensor([row])).logits[0, -1].log_softmax(-1) for row in rows]
    expected = [float((said[0].exp() * (said[0] - of)).sum()) for of in said[1:]]
    assert _moved(decoder, rows).tolist() == pytest.approx(expected, abs=1e-5)


def test_correlation():
    assert _correlation(np.array([1.0, 2, 3]), np.array([0.1, 0.5, 9])) == pytest.approx(1)
    assert _correlation(np.array([1.0, 1, 1]), np.array([0.1, 0.5, 9])) == 0


@pytest.fixture(scope="module")
def found():
    method, model, data = AttentionTrace.tiny()
    return method.run(model, data)


def test_figures_and_controls(found):
    assert set(found.controls) == {"random_weights", "tokens", "position", "random_order"}
    assert set(found.metrics) == {*TRACES, *(f"{t}_deleted" for t in TRACES)}
    assert len(found.table()) == len(TRACES) * 5 and len(found.rows) == found.facts["words"]
    # Each trace's faithfulness can be had again from the rows.
    of = found.rows.groupby("sentence")[["rollout", "effect"]].apply(
        lambda rows: _correlation(rows["rollout"].to_numpy(), rows["effect"].to_numpy())
    )
    assert found.metrics["rollout"] == pytest.approx(of.mean())


def test_a_decoder():
    method, _, data = AttentionTrace.tiny()
    assert np.isfinite(method.run(tiny("llama"), data).metrics["back_trace"])


def test_bad_input():
    method, model, data = AttentionTrace.tiny()
    with pytest.raises(ProbeError, match="an encoder or a decoder, not tiny-t5"):
        method.run(tiny("t5"), data)
    with pytest.raises(ProbeError, match="no sentence of 4 to 40"):
        method.run(model, Treebank(sentences=tuple(replace(s, words=("a",), heads=None) for s in data.sentences)))
    with pytest.raises(ProbeError, match="share"):
        replace(method, share=1.0).run(model, data)
    other = tiny("bert")
    other.network.set_attn_implementation("sdpa")
    with pytest.raises(ModelError, match="keeps no patterns"):
        method.run(other, data)
