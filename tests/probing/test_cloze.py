"""Cloze probes: scores by hand, and what the controls give away."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from tests.models.marked import marked
from tests.models.test_likelihood import masked_bert
from tracemend.data import Fact, Facts, available_folder, read_facts
from tracemend.errors import ModelError, ProbeError
from tracemend.models import load, tiny
from tracemend.models.likelihood import likelihoods
from tracemend.probing import ClozeProbe
from tracemend.probing.cloze import negated
from tracemend.probing.gap_scores import _row, collisions, gap_scores, tokens_of


def test_a_decoders_score_is_that_of_the_continuation():
    model = tiny("llama")
    candidates = ["film", "xyz", "good movie"]
    scores, first = gap_scores(model, ["you love the [Y].", "he is [Y]"], candidates, 2)
    for i, before in enumerate(("you love the", "he is")):
        (prefix,) = likelihoods(model, [before])
        for k, candidate in enumerate(candidates):
            (whole,) = likelihoods(model, [f"{before} {candidate}"])
            assert scores[i, k] == pytest.approx(whole.total - prefix.total, abs=1e-3)
        ids = [model.tokenizer.bos_token_id, *prefix.tokens]
        with torch.inference_mode():
            assert first[i][0] == int(model.network(input_ids=torch.tensor([ids])).logits[0, -1].argmax())


def test_a_masked_models_gap_has_as_many_masks_as_the_candidate_has_tokens():
    model = masked_bert()
    scores, _ = gap_scores(model, ["the [Y] is good"], ["film", "xyz"], 4)
    mask = model.tokenizer.mask_token
    for k, (candidate, n) in enumerate((("film", 1), ("xyz", 3))):
        batch = model.tokenizer(f"the {mask * n} is good", return_tensors="pt")
        with torch.inference_mode():
            said = model.network(**batch).logits[0, 2 : 2 + n].log_softmax(-1)
        tokens = model.tokenizer(candidate, add_special_tokens=False).input_ids
        assert scores[0, k] == pytest.approx(sum(said[i, t].item() for i, t in enumerate(tokens)), abs=1e-4)


def test_a_byte_level_vocabulary_is_asked_for_the_word_behind_its_space():
    trained = Tokenizer(BPE())
    trained.pre_tokenizer, trained.decoder = ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>", "<mask>"]
    trained.train_from_iterator(
        ["she lives in Paris now"] * 9, BpeTrainer(special_tokens=special, initial_alphabet=ByteLevel.alphabet())
    )
    names = dict(zip(("bos_token", "eos_token", "pad_token", "mask_token"), special, strict=True))
    model = replace(masked_bert(), tokenizer=PreTrainedTokenizerFast(tokenizer_object=trained, **names))
    words = trained.encode("she lives in Paris now").ids
    assert tokens_of(model, "Paris") == [words[3]]
    ids, places = _row(model, "she lives in [Y] now", [words[3]])
    assert ids == [*words[:3], model.tokenizer.mask_token_id, words[4]] and places == [3]


def test_a_candidate_is_asked_for_as_it_stands_in_a_text():
    model = marked()
    whole = model.tokenizer("the film was good").input_ids
    scores, _ = gap_scores(model, ["the film was [Y]"], ["good", "bad"], 4)
    with torch.inference_mode():
        logits = model.network(input_ids=torch.tensor([[model.tokenizer.bos_token_id, *whole[:-1]]])).logits[0, -1]
    assert tokens_of(model, "good") == whole[-1:]
    assert scores[0, 0] == pytest.approx(float(logits.log_softmax(-1)[whole[-1]]), abs=1e-4)


@pytest.fixture(scope="module")
def found():
    method, model, data = ClozeProbe.tiny()
    return method.run(model, data)


def test_controls_and_patterns(found):
    assert set(found.controls) == {"nonsense", "random_weights", "majority", "negated", "affirmed"}
    assert found.controls["majority"]["p_at_1"] == pytest.approx((2 + 1) / 8)
    table = found.table()
    # One of the two patterns of "likes" ends in [Y] without a full stop, one with: a decoder uses both.
    assert table["relation"].tolist() == ["likes", "likes", "is"] and table["facts"].tolist() == [4, 4, 4]
    assert 0 <= found.metrics["consistency"] <= 1 and "consistency" not in found.controls["nonsense"]
    assert np.isfinite(table["mrr"]).all()


def test_where_names_and_frequencies_answer_the_tool_says_so():
    facts = Facts(facts=tuple(Fact("r", w, "good") for w in ("my", "your", "this")), patterns={"r": ("[X] is [Y]",)})
    found = ClozeProbe().run(tiny("gpt2"), facts)
    assert found.metrics["p_at_1"] == found.controls["nonsense"]["p_at_1"] == 1
    assert any("does as well" in s and "nonsense" in s for s in found.findings)
    assert any("On r a nonsense pattern" in s for s in found.findings)


def test_at_k_is_never_below_at_one_and_what_says_nothing_is_named(found):
    for figures in (found.metrics, found.controls["nonsense"]):
        assert figures["p_at_10"] == 1 >= figures["p_at_1"]
        assert figures["full_vocabulary_at_10"] >= figures["full_vocabulary"]
    assert any(said.startswith("P@10 says nothing of likes, is") for said in found.findings)
    method, model, data = ClozeProbe.tiny()
    two, one = (replace(method, k=k).run(model, data) for k in (2, 1))
    by_hand = float((two.table()["p_at_2"] * two.table()["facts"]).sum() / two.table()["facts"].sum())
    assert two.metrics["p_at_2"] == pytest.approx(by_hand) and two.metrics["p_at_1"] == one.metrics["p_at_1"]
    assert two.controls["majority"]["p_at_2"] == pytest.approx((3 + 2) / 8)
    assert not any("_at_1" in name and name != "p_at_1" for name in one.metrics)
    size = len(model.tokenizer)
    assert replace(method, k=size).run(model, data).metrics[f"full_vocabulary_at_{size}"] == 1
    with pytest.raises(ProbeError, match="k is 0; it must be at least 1"):
        replace(method, k=0).run(model, data)


def test_the_negated_arm_stands_beside_the_same_patterns_affirmed(found):
    method, model, data = ClozeProbe.tiny()
    only = Facts(facts=data.facts, patterns={"likes": data.patterns["likes"][1:], "is": data.patterns["is"]})
    alone = method.run(model, only)
    assert found.controls["affirmed"] == {n: alone.metrics[n] for n in found.controls["affirmed"]}
    assert set(found.controls["affirmed"]) == set(found.controls["negated"])


def primed(model_sees="is [Y]."):
    facts = tuple(Fact("r", subject, kind) for subject, kind in (("my", "good"), ("your", "bad"), ("this", "sad")))
    texts = {"plain": "", "negated": "not ", "misprimed": ""}
    wordings = {
        arm: {f: ("film? " if arm == "misprimed" else "") + f"{f.subject} {no}{model_sees}" for f in facts}
        for arm, no in texts.items()
    }
    return Facts(facts=facts, patterns={"r": ("[X] [Y].",)}, wordings=wordings)


def test_wordings_of_the_facts_are_asked_and_their_twists_stand_beside():
    model = tiny("gpt2")
    found = ClozeProbe().run(model, primed())
    assert {"negated", "misprimed", "nonsense", "random_weights", "majority"} == set(found.controls)
    scores, _ = gap_scores(model, ["film? my is [Y].", "film? your is [Y].", "film? this is [Y]."],
                           ["good", "bad", "sad"], 4)  # fmt: skip
    assert found.controls["misprimed"]["p_at_1"] == pytest.approx(np.mean(scores.argmax(1) == np.arange(3)))
    assert any(said.startswith('Under "not"') and "of 3 answers" in said for said in found.findings)
    assert any(said.startswith("Behind a word that has nothing to do with it") for said in found.findings)
    assert found.table()["misprimed"].notna().all()


def test_wordings_that_go_on_behind_the_gap_are_for_masked_models():
    with pytest.raises(ProbeError, match="no wording"):
        ClozeProbe().run(tiny("gpt2"), primed("is [Y] here"))
    assert ClozeProbe().run(masked_bert(), primed("is [Y] here")).facts["left_out"] == 0
    one, other = primed(), primed("is [Y] here")
    first = one.facts[0]
    mixed = {arm: {**of, first: other.wordings[arm][first]} for arm, of in one.wordings.items()}
    found = ClozeProbe().run(tiny("gpt2"), replace(one, wordings=mixed))
    assert found.facts["facts"] == 2 and any(said.startswith("1 facts were left out") for said in found.findings)
    with pytest.raises(ProbeError, match="no wording"):
        ClozeProbe(relations=("r",)).run(tiny("gpt2"), primed("is [Y] here"))


def test_negation():
    assert negated("[X] is in [Y].") == "[X] is not in [Y]."
    assert negated("[X], who was and is [Y]") == "[X], who was not and is [Y]"
    assert negated("[X] wishes [Y]") == negated("[X] is not [Y]") == ""


def test_what_becomes_of_the_answers_under_negation_is_counted(found):
    assert any(re.search(r'Under "not" \d\.\d+ of 8 answers', sentence) for sentence in found.findings)


def test_collisions_are_named():
    assert collisions(tiny("gpt2"), ["xa", "xb", "film"]) == ["xa and xb"]


def gap_in_front():
    return Facts(facts=(Fact("r", "my", "film"), Fact("r", "your", "movie")), patterns={"r": ("[Y] is of [X]",)})


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(ProbeError, match=r"no pattern of .* ends in \[Y\]"):
        ClozeProbe(relations=("r",)).run(tiny("gpt2"), gap_in_front())
    assert ClozeProbe().run(masked_bert(), gap_in_front()).facts["facts"] == 2
    with pytest.raises(ModelError, match="language model head"):
        ClozeProbe().run(tiny("bert"), gap_in_front())
    unknown = Facts(facts=(Fact("r", "my", "电影"),), patterns={"r": ("[X] is [Y]",)})
    with pytest.raises(ProbeError, match="cannot make the candidate"):
        ClozeProbe().run(masked_bert(), unknown)


@pytest.mark.slow
def test_smollm2_knows_some_capitals():
    folder = available_folder("pararel")
    if folder is None:
        pytest.skip("pararel is not here; set TRACEMEND_DATA")
    found = ClozeProbe(relations=("P36",), facts=8, patterns=1).run(load("smollm2"), read_facts(folder))
    assert found.metrics["p_at_1"] > found.controls["random_weights"]["p_at_1"]
