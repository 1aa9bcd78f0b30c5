from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.models.families import DECODERS, decoder
from tracemend.circuits import TraceFacts
from tracemend.circuits.tokens import span_of
from tracemend.circuits.trace_facts import window_around
from tracemend.data.prompts import Facts
from tracemend.errors import CircuitError
from tracemend.models import load, tiny

SMALL, _, FACTS = TraceFacts.tiny()


def test_subjects_are_found_by_their_tokens() -> None:
    model = tiny("llama")
    prompt = "the nice people love nice people"
    tokens = model.tokenizer(prompt).tokens()
    assert [tokens[i] for i in span_of(model, prompt, "nice people")] == tokens[-2:]
    assert 0 not in span_of(model, prompt, "the")
    with pytest.raises(CircuitError, match="does not occur"):
        span_of(model, prompt, "Nobody")


def test_a_subject_is_no_part_of_a_longer_word() -> None:
    model = tiny("llama")

    def found(prompt: str, phrase: str) -> str:
        offsets = model.tokenizer(prompt, return_offsets_mapping=True).offset_mapping
        span = span_of(model, prompt, phrase)
        return prompt[offsets[span[0]][0] : offsets[span[-1]][1]].strip()

    assert found("the son of two sons is", "son") == "son" and span_of(model, "the son of two sons is", "son")[0] < 6
    assert found("my son's", "son") == "son"
    for prompt, phrase in (("two sons are", "son"), ("the person is", "son"), ("the people", "")):
        with pytest.raises(CircuitError, match=r"whole words|does not occur"):
            span_of(model, prompt, phrase)
    # Scripts without spaces have no words to be within.
    assert span_of(model, "法国的首都是", "法国")


def test_the_token_of_a_longer_answer_is_said() -> None:
    model = tiny("llama")
    fact = FACTS.frame.iloc[0].to_dict()
    found = SMALL.run(model, Facts.make([{**fact, "answer": "film movie"}, fact]))
    assert found.each["token"].str.strip().tolist() == ["film", "film"]
    assert "1 of the 2 traced facts" in found.findings[0] and "'film movie'" in found.findings[0]
    assert not SMALL.run(model, FACTS).findings


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_restoring_the_ends_of_the_stream_restores_all_or_nothing(name: str) -> None:
    model = decoder(name)
    # Of a random network nobody knows which answers noise makes less likely, but of some it does.
    words = ("film", "movie", "people", "nice", "bad", "good", "happy", "sad")
    fact = FACTS.frame.iloc[0].to_dict()
    found = replace(SMALL, kinds=("state",)).run(model, Facts.make([{**fact, "answer": word} for word in words]))
    assert 1 <= found.metrics["facts"] <= len(words)
    rows = found.table().set_index(["layer", "place"])["effect"]
    # After the last block only the last position counts, and it alone brings back all of p.
    gone = found.metrics["p_clean"] - found.metrics["p_corrupted"]
    assert rows[1, "last"] == pytest.approx(gone, abs=1e-5)
    assert rows[1, "subject last"] == pytest.approx(0, abs=1e-6)
    assert found.controls["no noise"]["last_state"] == pytest.approx(0, abs=1e-5)


@torch.no_grad()
def test_a_window_over_all_layers_restores_what_both_halves_write() -> None:
    """At the last position all attention outputs and MLP outputs of a clean run make the clean answer together."""
    model = tiny("llama")
    found = replace(SMALL, window=2).run(model, FACTS.head(1))
    assert set(found.table()["kind"]) == {"state", "mlp", "attention"}
    assert np.isfinite(found.table()["effect"]).all()
    assert found.metrics["facts"] == 1


@pytest.mark.parametrize(
    ("layer", "window", "expected"),
    [
        (0, 10, (0, 4)), (1, 10, (0, 5)), (4, 10, (0, 8)), (5, 10, (0, 9)), (20, 10, (15, 24)), (29, 10, (24, 29)),
        (7, 1, (7, 7)), (0, 3, (0, 1)), (7, 3, (6, 8)), (29, 3, (28, 29)), (0, 100, (0, 29)),
    ],
)  # fmt: skip
def test_a_window_lies_around_its_layer(layer: int, window: int, expected: tuple[int, int]) -> None:
    """As in the code of Meng et al.: near an end it is cut off, not moved."""
    found = window_around(layer, window, 30)
    assert (found[0], found[-1]) == expected


@torch.no_grad()
def test_a_window_at_the_first_layer_leaves_the_last_ones_as_they_are() -> None:
    """Two layers: of a window of two, layer 0 stands alone at the lower end."""
    rows = replace(SMALL, kinds=("mlp",), window=2).run(tiny("llama"), FACTS).table()
    alone = replace(SMALL, kinds=("mlp",), window=1).run(tiny("llama"), FACTS).table()
    first, only = (found[found["layer"] == 0].reset_index(drop=True) for found in (rows, alone))
    pd.testing.assert_frame_equal(first, only)


def test_what_the_model_does_not_know_is_refused_with_p_and_rank() -> None:
    with pytest.raises(CircuitError, match=r"knows none of the 2 facts: .* with p 0\.\d+ and rank \d+"):
        replace(SMALL, floor=0.99).run(tiny("llama"), FACTS)


def test_each_fact_says_whether_it_was_traced(tmp_path) -> None:
    model = tiny("llama")
    p = [SMALL.run(model, FACTS).each["p"].tolist()][0]
    floor = (p[0] + p[1]) / 2
    found = replace(SMALL, floor=floor).run(model, FACTS)
    assert sorted(found.each["traced"]) == [False, True]
    assert "not known" in found.each.loc[~found.each["traced"].astype(bool), "reason"].item()
    again = type(found).load(found.save(tmp_path))
    assert again.each.equals(found.each)


def test_bad_input_is_refused() -> None:
    model = tiny("llama")
    with pytest.raises(CircuitError, match="does not occur"):
        SMALL.run(model, Facts.make([{"prompt": "you are", "subject": "they", "answer": "nice"}]))
    with pytest.raises(CircuitError, match="not one of: state, mlp, attention"):
        replace(SMALL, kinds=("stat",)).run(model, FACTS)
    with pytest.raises(CircuitError, match="draws is 0"):
        replace(SMALL, draws=0).run(model, FACTS)
    for noise in (-3.0, float("nan"), float("inf")):
        with pytest.raises(CircuitError, match="expected a number of standard deviations"):
            replace(SMALL, noise=noise).run(model, FACTS)
    with pytest.raises(CircuitError, match=r"would hold \d[\d.]* MiB .* above the limit of 1e-06 GiB"):
        replace(SMALL, max_memory=1e-6).run(model, FACTS)
    with pytest.raises(CircuitError, match="does not lower p"):
        replace(SMALL, noise=0.0).run(model, FACTS)
    with pytest.raises(CircuitError, match="take fewer draws"):
        replace(SMALL, max_memory=1e-6).run(model, FACTS)
    with pytest.raises(CircuitError, match="is not defined for"):
        SMALL.run(tiny("bert"), FACTS)


@pytest.mark.slow
def test_smollm2_looks_facts_up_at_the_end_of_the_subject() -> None:
    facts = Facts.make([{"prompt": "The capital of France is", "subject": "France", "answer": "Paris"}])
    found = TraceFacts(stride=8, draws=4, floor=0.1).run(load("smollm2"), facts)
    rows = found.table().set_index(["kind", "layer", "place"])["effect"]
    assert rows["state", 0, "subject last"] > rows["state", 24, "subject last"] + 0.05
    assert rows["state", 24, "last"] > rows["state", 0, "last"] + 0.05
