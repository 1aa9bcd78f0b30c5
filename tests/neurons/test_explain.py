"""Explanations in words: right on planted units, scored fairly, and made by an endpoint that may fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.chat_server import said
from tests.neurons.planted import SITE, UNIT, planted_unit
from tracemend.data import Sentence, Treebank
from tracemend.errors import ModelError, NeuronError, RunError, TracemendError
from tracemend.models import load, tiny
from tracemend.neurons import Explain
from tracemend.neurons import explain as room
from tracemend.neurons.answers import Answers
from tracemend.neurons.chat import LocalChat, explanation_in, question
from tracemend.neurons.excerpts import Excerpts, correlation, cut, detection, fuzzing
from tracemend.neurons.lexicon import Explanation, Lexicon, known_units
from tracemend.neurons.run import neurons_run


def excerpts(seed=0, n=12):
    rng = np.random.default_rng(seed)
    words = tuple(("the", "red", "door", "is", "red", "now") for _ in range(n))
    return Excerpts(words, np.maximum(rng.normal(size=(6 * n, 3)), 0))


def test_the_truth_scores_one_shuffled_nothing_and_a_constant_is_undefined():
    rng = np.random.default_rng(0)
    true = rng.random(5_000) ** 4
    assert correlation(true, true) == pytest.approx(1.0)
    assert abs(correlation(true, rng.permutation(true))) < 0.1
    assert np.isnan(correlation(true, np.ones(5_000))) and np.isnan(correlation(np.zeros(5_000), true))


def test_detection_and_fuzzing_of_the_truth_are_one():
    seen = excerpts()
    seen.x[:30, 0] = 0.0
    chosen = seen.top_and_random(0, 4, np.random.default_rng(0))
    true = seen.x[seen.rows(chosen), 0]
    assert detection(seen, 0, true, chosen) == 1.0 and fuzzing(true, true) == 1.0
    assert fuzzing(true, -true) == 0.0
    assert np.isnan(fuzzing(np.zeros(5), np.arange(5.0)))


def test_top_excerpts_are_those_with_the_highest_peaks():
    seen = excerpts()
    seen.x[6 * 7 + 2, 1] = 9.0
    assert seen.top(1, 3)[0] == 7
    assert seen.of(1, 7)[2] == 9.0
    both = seen.top_and_random(1, 3, np.random.default_rng(0))
    assert len(set(both.tolist())) == 6
    assert len(Excerpts(seen.words, np.zeros_like(seen.x)).top(0, 3)) == 0


def test_the_embedded_explainer_finds_words_pairs_and_endings():
    train = [("We", "love", "seeing", "the", "red", "door"), ("the", "red", "and", "a", "walking", "man"),
             ("red", "is", "nice", "for", "the", "man")] * 8  # fmt: skip
    lexicon = Lexicon.of(train, tiny("bert"))
    table = lexicon.table(train, fewest=3)
    words = [word.lower() for excerpt in train for word in excerpt]
    pair = np.array([float(words[i] == "red" and i % 18 in (4, 7)) for i in range(len(words))])
    for activation, name in (
        (np.array([float(word == "red") for word in words]), "'red'"),
        (np.array([float(word.endswith("ing")) for word in words]), "words ending in -ing"),
        (pair, "'the red'"),
    ):
        found = table.explain(activation, parts=3)
        assert found.parts[0][0] == name and found.parts[0][1] == pytest.approx(1.0, abs=1e-6), found
        simulated = np.concatenate([lexicon.simulate(found, excerpt) for excerpt in train])
        assert correlation(activation, simulated) == pytest.approx(1.0)
    noise = np.random.default_rng(0).random(len(words))
    assert len(table.explain(noise, parts=8).parts) <= 1


def test_a_lexicon_knows_classes_of_words():
    words = [("movie", "film", "people", "reply", "love", "hate", "great", "awful")] * 3
    many = words + [tuple(f"w{c}{d}" for d in "abcdefgh") for c in "abcdefgh"]
    found = Lexicon.of(many, tiny("bert"))
    assert len(set(found.classes.values())) == 2 and "like '" in next(iter(found.classes.values()))
    assert Lexicon.of(words[:1], tiny("bert")).classes == {}
    known = known_units(many, many[:2], found)
    assert known["train"].x.shape[1] >= 3 and set(np.unique(known["train"].x)) == {0.0, 1.0}


def test_the_planted_unit_is_explained_by_its_nouns():
    model, bank, _ = planted_unit()
    method = replace(Explain.tiny()[0], site=SITE, units=(UNIT, 20), parts=6)
    found = method.run(model, bank)
    row = found.table().set_index("unit").loc[UNIT]
    nouns = {f"'{word}'" for word in ("movie", "film", "people", "reply")}
    assert set(row["explanation"].split("; ")[:4]) == nouns
    assert row["score"] > 0.8 > 2 * abs(row["shuffled"]) and row["score"] > row["other_unit"]
    assert row["fuzzing"] > 0.95
    assert found.controls["competence"]["score"] > 0.9
    assert len(found.facts["coloured"][0]["excerpts"][0]["words"]) == 5


def test_long_sentences_are_cut_into_excerpts_that_fit():
    method, model, _ = Explain.tiny()
    long = Sentence(words=("internationalisation",) * 40, document="d0")
    pieces, lost = cut(model, [long.words], method.excerpt)
    assert all(len(model.tokenizer(" ".join(piece)).input_ids) <= model.window for piece in pieces)
    assert sum(len(piece) for piece in pieces) == 40 and lost == 0
    bank = Treebank(sentences=tuple(replace(long, id=f"s{i}", document=f"d{i}") for i in range(10)))
    assert len(method.run(model, bank).table()) == 4


def test_a_word_longer_than_the_window_is_left_out_and_said():
    method, model, bank = Explain.tiny()
    endless = "!" * 2_000
    assert cut(model, [("the", endless, "movie"), (endless,)], 10) == ([("the",), ("movie",)], 2)
    with pytest.raises(NeuronError, match="none of 1 words fits"):
        cut(model, [(endless,)], 10)
    first = replace(bank.sentences[0], words=(endless, *bank.sentences[0].words[1:]))
    found = method.run(model, replace(bank, sentences=(*bank.sentences[1:], first)))
    said = f"{found.facts['left_out']} words are longer"
    assert found.facts["left_out"] <= 1 and (said in " ".join(found.findings)) == (found.facts["left_out"] > 0)


def test_a_unit_that_never_fires_has_no_score():
    method, model, bank = Explain.tiny()
    dense = model.network.encoder.layer[1].intermediate.dense
    with torch.no_grad():
        dense.weight[3], dense.bias[3] = 0.0, -1.0
    found = replace(method, units=(3, 4)).run(model, bank)
    row = found.table().set_index("unit").loc[3]
    assert np.isnan(row["score"]) and row["note"] == "never active on held-out words"
    assert found.metrics["defined"] == 0.5 and any("have no score" in said for said in found.findings)


def test_a_unit_that_fires_everywhere_and_one_that_fires_in_few_excerpts_are_noted():
    method, model, bank = Explain.tiny()
    dense = model.network.encoder.layer[1].intermediate.dense
    with torch.no_grad():
        dense.bias[3] = 100.0
    found = replace(method, units=(3, 4), neurons=2).run(model, bank)
    row = found.table().set_index("unit").loc[3]
    assert row["fires"] == 1.0 and row["note"] == "active on more than half of the words"
    assert any("above zero on more than half" in said for said in found.findings)
    rare = excerpts(n=30)
    rare.x[:, 0] = 0.0
    rare.x[:18:6, 0] = 1.0
    assert room._note(rare, 0, Explanation("colours")) == "active in fewer than 20 excerpts"
    assert room._note(rare, 0, Explanation("")) == "no explanation"


@pytest.mark.parametrize(
    "options",
    [{"units": (64,)}, {"units": (3, 3)}, {"neurons": 0}, {"ablated": -1},
     {"site": "blocks.0.attn.hook_pattern"}, {"explainer": "oracle"}, {"explainer": "endpoint", "url": "localhost"},
     {"explainer": "endpoint", "url": "http://localhost:1/v1", "timeout": 0}],
    ids=str,
)  # fmt: skip
def test_bad_settings_are_refused(options):
    method, model, bank = Explain.tiny()
    with pytest.raises(TracemendError) as caught:
        replace(method, **options).run(model, bank)
    assert len(str(caught.value)) > 30


@pytest.mark.parametrize("architecture", ["gpt2", "bert"])
def test_a_local_model_must_chat(architecture):
    with pytest.raises(NeuronError, match="chat template"):
        LocalChat(tiny(architecture))


def test_a_question_must_fit_the_local_models_window():
    model = tiny("llama")
    model.tokenizer.chat_template = "{% for turn in messages %}{{ turn.content }}{% endfor %}"
    with pytest.raises(NeuronError, match="fewer or shorter excerpts"):
        LocalChat(model).answer(question([(("the", "red", "door"), np.array([0.0, 2.0, 1.0]))]))


@pytest.mark.slow
def test_a_local_model_answers_in_words():
    asked = question([(("a", "red", "door"), np.array([0.0, 2.0, 0.0])), (("blue", "sky"), np.array([2.0, 0.0]))])
    answer = LocalChat(load("smollm2")).answer(asked)
    assert 0 < len(answer) < 500 and any(c.isalpha() for c in explanation_in(answer))


def test_a_question_shows_levels_from_nought_to_ten_and_an_answer_is_cleaned():
    asked = question([(("a", "red", "door"), np.array([0.0, 2.0, 1.1])), (("no",), np.array([0.0]))])[0]["content"]
    assert "red\t10" in asked and "door\t5" in asked and "a\t0" in asked and "Active: red (10), door (5)" in asked
    assert explanation_in('\n"The main thing this neuron does is find colours."') == "colours"
    assert explanation_in("Explanation: words for colours\nbecause") == "words for colours"
    assert len(explanation_in("a" * 1_000)) == 300
    with pytest.raises(NeuronError, match="no explanation"):
        explanation_in("123 !!")


class Near:
    """A simulator that knows two words, in place of the encoder."""

    def simulate(self, text, words):
        return np.array([float(word.lower() in text) for word in words])


def test_a_run_by_an_endpoint_keeps_what_it_got_and_goes_on(server, monkeypatch, tmp_path):
    monkeypatch.setattr(room, "SimilaritySimulator", Near)
    model, bank, _ = planted_unit()
    method = replace(
        Explain.tiny()[0], site=SITE, units=(UNIT, 20, 21), explainer="endpoint", llm="some-model", url=server.url,
        tries=1,
    )  # fmt: skip
    server.answer = lambda n: said("movie, film, people and reply") if n < 3 else (503, b"", {})
    with pytest.raises(ModelError, match="what was answered is kept"):
        method.run(model, bank, cache=tmp_path)
    assert len(server.asked) == 3
    server.answer = lambda n: said("movie, film, people and reply") if n != 5 else said("?! a")
    found = method.run(model, bank, cache=tmp_path)
    # Two were kept; the third and the made-up units are asked for.
    units = len(found.facts["competence"])
    assert len(server.asked) == 3 + 1 + units
    row = found.table().set_index("unit").loc[UNIT]
    assert row["explanation"] == "movie, film, people and reply" and row["score"] > 0.7
    assert "random_weights" not in found.controls and found.facts["explainer"] == "some-model"
    again = method.run(model, bank, cache=tmp_path)
    assert len(server.asked) == 3 + 1 + units
    assert again.metrics == pytest.approx(found.metrics, nan_ok=True)


def test_nonsense_is_asked_again_and_never_kept(server, monkeypatch, tmp_path):
    monkeypatch.setattr(room, "SimilaritySimulator", Near)
    model, bank, _ = planted_unit()
    method = replace(
        Explain.tiny()[0], site=SITE, units=(UNIT, 20), explainer="endpoint", llm="m", url=server.url, tries=3,
        ablated=0,
    )  # fmt: skip
    nothing, good = said("the main thing this neuron does is find"), said("movie, film, people and reply")
    server.answer = lambda n: nothing
    with pytest.raises(NeuronError, match="explained none of 2 units"):
        method.run(model, bank, cache=tmp_path)
    # Each was asked for three times, and nothing of it stays.
    assert len(server.asked) == 6 and not list(tmp_path.iterdir())
    server.asked.clear()
    server.answer = lambda n: good if n == 2 or n > 5 else nothing
    found = method.run(model, bank, cache=tmp_path)
    notes = found.table().set_index("unit")["note"]
    assert notes[20] == "no explanation was given" != notes[UNIT]
    assert any("No explanation was given of 1 of 2 units (20)" in line for line in found.findings)
    assert not any("is constant" in line for line in found.findings)
    server.asked.clear()
    server.answer = lambda n: good
    again = method.run(model, bank, cache=tmp_path)
    assert len(server.asked) == 1 and again.metrics["defined"] == 1.0


def test_another_address_or_patience_goes_on_with_the_run(server, monkeypatch, tmp_path):
    monkeypatch.setattr(room, "SimilaritySimulator", Near)
    model, bank, _ = planted_unit()
    method = replace(
        Explain.tiny()[0], site=SITE, units=(UNIT, 20), explainer="endpoint", llm="m", url="http://127.0.0.1:9/v1",
        tries=1, ablated=0,
    )  # fmt: skip
    given = {"model": model, "data": bank, "out": tmp_path / "run", "data_name": "nouns"}
    with pytest.raises(ModelError, match="give the same command again"):
        neurons_run(method, **given)
    server.answer = lambda n: said("movie, film, people and reply") if n < 2 else (503, b"", {})
    with pytest.raises(ModelError, match="503"):
        neurons_run(replace(method, url=server.url), **given)
    server.answer = lambda n: said("movie, film, people and reply")
    slower = replace(method, url=server.url + "/", timeout=90.0, tries=2)
    found = neurons_run(slower, **given)
    asked = len(server.asked)
    assert asked == 2 + 1 + len(found.facts["competence"]) and found.config["timeout"] == 90.0
    # Finished, it is read back without a question.
    assert neurons_run(method, **given).metrics == pytest.approx(found.metrics, nan_ok=True)
    assert len(server.asked) == asked
    with pytest.raises(RunError, match="llm: there 'm', now 'other'"):
        neurons_run(replace(slower, llm="other"), **given)


def test_a_torn_line_of_kept_answers_is_asked_again(tmp_path):
    kept = Answers(tmp_path, "x")
    kept.put("unit", 1, "colours")
    (path,) = tmp_path.iterdir()
    with path.open("a") as file:
        file.write('{"of": "unit", "un')
    assert Answers(tmp_path, "x").get("unit", 1) == "colours" and len(Answers(tmp_path, "x").known) == 1
    assert Answers(tmp_path, "y").get("unit", 1) is None
    # The half line does not take the next one with it.
    Answers(tmp_path, "x").put("unit", 3, "verbs")
    assert Answers(tmp_path, "x").get("unit", 3) == "verbs"
    with path.open("a") as file:
        file.write('\n{"of": "unit", "unit": 2, "explanation": ""}\n')
    assert Answers(tmp_path, "x").get("unit", 2) is None
