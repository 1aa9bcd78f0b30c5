from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from tests.models.families import DECODERS, decoder
from tracemend.circuits import Patch
from tracemend.circuits.paired import PairedRuns, ratio_intervals, sign_flip_p
from tracemend.circuits.tokens import ids_of
from tracemend.data.prompts import PromptPairs, indirect_objects
from tracemend.errors import CircuitError, DataError
from tracemend.models import capture, edit, load, tiny
from tracemend.models.edits import replace as put

CONFIGURED, _, PAIRS = Patch.tiny()


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_identities_hold_and_effects_are_those_of_whole_runs(name: str) -> None:
    model = decoder(name)
    one = PAIRS.head(1)
    found = CONFIGURED.run(model, one)
    assert found.metrics["nothing"] == pytest.approx(0, abs=1e-4)
    assert found.metrics["everything"] == pytest.approx(1, abs=1e-4)
    row = one.frame.iloc[0]
    pair = PairedRuns.of(model, row, 0)
    clean, corrupted = pair.ends
    ids = {side: ids_of(model, row[side]) for side in ("clean", "corrupted")}
    rows = found.table().set_index(["part", "layer", "head", "position"])["effect"]
    cases = [
        (("heads", 0, 1, "all"), "blocks.0.attn.hook_z", {"heads": [1]}),
        (("mlp", 1, -1, "last"), "blocks.1.hook_mlp_out", {"positions": [-1]}),
        (("attention", 0, -1, "between"), "blocks.0.hook_attn_out", {"positions": list(pair.places["between"])}),
        (("stream", 1, -1, "changed"), "blocks.1.hook_resid_pre", {"positions": list(pair.places["changed"])}),
    ]
    for key, site, where in cases:
        with capture(model, [site]) as seen:
            model.network(ids["clean"])
        with edit(model, {site: put(seen[site], **where)}):
            whole = float(pair.difference(model.network(ids["corrupted"]).logits[0, -1]))
        assert rows[key] == pytest.approx((whole - corrupted) / (clean - corrupted), abs=2e-3), key


@torch.no_grad()
def test_direct_paths_add_up_where_nothing_is_left_in_between() -> None:
    """In the last block the direct effect of the MLP is its whole effect."""
    rows = (
        CONFIGURED.run(tiny("gpt2"), PAIRS.head(1)).table().set_index(["part", "layer", "head", "position"])["effect"]
    )
    assert rows["direct", 1, -1, "last"] == pytest.approx(rows["mlp", 1, -1, "last"], abs=1e-4)
    # Of a head it is not: the MLP of the same block reads the head.
    assert rows["direct", 1, 0, "last"] != pytest.approx(rows["heads", 1, 0, "all"], abs=1e-4)


def test_the_ends_of_the_stream_are_everything() -> None:
    model = tiny("llama")
    found = CONFIGURED.run(model, PAIRS).table().set_index(["part", "layer", "head", "position"])["effect"]
    assert found["stream", 0, -1, "changed"] == pytest.approx(1, abs=1e-4)
    assert found["stream", 2, -1, "last"] == pytest.approx(1, abs=1e-4)
    assert found["stream", 0, -1, "last"] == pytest.approx(0, abs=1e-4)
    assert found["stream", 2, -1, "changed"] == pytest.approx(0, abs=1e-4)


def test_controls_are_of_the_same_sites() -> None:
    found = CONFIGURED.run(tiny("llama"), PAIRS)
    assert set(found.controls) == {"placebo", "other pair"}
    assert set(found.controls["placebo"]) == {f"best_{part}" for part in CONFIGURED.parts}
    # A pair that is alone in its length has no other.
    assert set(CONFIGURED.run(tiny("llama"), PAIRS.head(1)).controls) == {"placebo"}


@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 10))
@settings(max_examples=25, deadline=None)
def test_intervals_hold_the_effect_of_equal_pairs_and_p_is_bounded(pairs: int, sites: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    share = rng.normal(size=sites)
    gaps = rng.uniform(1, 2, size=pairs)
    effect, low, high = ratio_intervals(gaps[:, None] * share, gaps, draws=50, seed=seed)
    assert np.allclose(effect, share)
    # Every pair has the same share, so none is another's absence; of fewer than six that tells nothing.
    assert np.isnan([low, high]).all() if pairs < 6 else np.allclose([low, high], share)
    p = sign_flip_p(gaps[:, None] * share, draws=200, seed=seed)
    assert ((p > 0) & (p <= 1)).all()
    assert p.argmin() == np.abs(share).argmax() or p.min() == p[np.abs(share).argmax()]


@pytest.mark.parametrize("pairs", [3, 8, 16])
def test_few_pairs_without_an_effect_show_none(pairs: int) -> None:
    """A percentile bootstrap of eight pairs does in 12 % of cases."""
    rng = np.random.default_rng(0)
    _, low, high = ratio_intervals(rng.normal(size=(pairs, 400)), np.ones(pairs), draws=200, seed=0)
    assert ((low > 0) | (high < 0)).mean() < 0.09


def test_a_prompt_ends_where_its_words_end() -> None:
    """Some tokenizers close a text; what follows its end is no answer."""
    model = tiny("llama")
    plain = ids_of(model, "you are so").tolist()
    first, last = model.tokenizer.convert_ids_to_tokens([plain[0][0], plain[0][0]])
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, plain[0][0])]
    )
    assert model.tokenizer("you are so").input_ids[-1] == plain[0][0]
    assert ids_of(model, "you are so").tolist()[0][-1] == plain[0][-1]


def test_p_tells_an_effect_from_noise() -> None:
    rng = np.random.default_rng(0)
    changes = rng.normal(size=(12, 50))
    changes[:, 7] += 5
    p = sign_flip_p(changes, draws=1000, seed=0)
    assert p[7] < 0.01 and np.delete(p, 7).min() > 0.05
    assert sign_flip_p(np.full((12, 1), np.nan), draws=10, seed=0) == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"corrupted": "you hate this movie so"}, "must have as many"),
        ({"corrupted": "you love this good movie so"}, "are the same"),
        ({"answer": "sad"}, "same token"),
        ({"answer": "unbelievably"}, "expected one"),
    ],
)
def test_pairs_that_cannot_be_patched_are_refused(changed: dict[str, str], words: str) -> None:
    row = {**PAIRS.frame.iloc[0].to_dict(), **changed}
    with pytest.raises(CircuitError, match=words):
        CONFIGURED.run(tiny("llama"), PromptPairs.make([row]))


def test_a_task_that_is_not_done_is_refused_with_its_number() -> None:
    with pytest.raises(CircuitError, match=r"does not do this task: .* a gap of"):
        replace(CONFIGURED, floor=50.0).run(tiny("llama"), PAIRS)
    with pytest.raises(CircuitError, match="'head', which is not one of: stream"):
        replace(CONFIGURED, parts=("head",)).run(tiny("llama"), PAIRS)
    with pytest.raises(CircuitError, match="give shorter prompts"):
        replace(CONFIGURED, max_memory=1e-6).run(tiny("llama"), PAIRS)
    with pytest.raises(CircuitError, match="is not defined for"):
        CONFIGURED.run(tiny("t5"), PAIRS)


def test_indirect_objects_are_pairs_of_one_word() -> None:
    pairs = indirect_objects(50, seed=1).frame
    assert len(set(pairs["clean"])) == 50
    row: Any
    for row in pairs.itertuples(index=False):
        one, other = row.clean.split(), row.corrupted.split()
        assert [(a.strip(",."), b.strip(",.")) for a, b in zip(one, other, strict=True) if a != b] == [
            (row.foil, row.answer)
        ]
    with pytest.raises(DataError, match="expected 1 to"):
        indirect_objects(0)


@pytest.mark.slow
def test_smollm2_hands_the_name_over_in_its_upper_half() -> None:
    found = Patch(parts=("stream", "direct"), draws=100).run(load("smollm2"), indirect_objects(2))
    assert found.metrics["nothing"] == pytest.approx(0, abs=1e-3)
    assert found.metrics["everything"] == pytest.approx(1, abs=1e-3)
    assert 12 <= found.metrics["handover"] <= 26
    assert abs(found.controls["placebo"]["best_direct"]) < found.metrics["best_direct"]
