"""AMPLIFY shows the samples it should, with exactly their key words, and scores what a prompt says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chat_server import Server, said
from tracemend.data import Labelled
from tracemend.errors import DataError, ModelError, TuningError
from tracemend.mend import Amplify, AmplifyResult
from tracemend.mend.amplify import KEY, LABELS, MAJORITY, OTHERS, RANDOM, ZERO_SHOT, key_words, random_words
from tracemend.mend.chat_asked import label_in
from tracemend.mend.rationales import Asked, Shot, Wording, fitting
from tracemend.models import tiny
from tracemend.models.endpoint import Endpoint
from tracemend.models.likelihood import likelihoods
from tracemend.tuning import TextClassifier

SHORT = Wording("{words} {label}", "is")
SHOTS = [Shot(("movie please", None), "unsafe", ("please",)), Shot(("film thanks", None), "safe", ("film",))]
PAIRS = [("people please", None), ("reply", None), ("movie thanks film", None)]
ARMS = {KEY, LABELS, RANDOM, OTHERS}


@pytest.fixture(scope="module")
def found() -> AmplifyResult:
    method, model, splits = Amplify.tiny()
    return method.run(model, splits)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_words_probability_is_that_of_the_whole_prompt(architecture: str) -> None:
    model = tiny(architecture)
    asked = Asked.make(model, ("safe", "unsafe"), ("unsafe=terrible xyz",), SHORT)
    assert len(asked.tokens[1]) > 1, "a word of several tokens"
    for shots in (SHOTS[:1], []):
        p = asked.probabilities(shots, PAIRS, batch_size=2)
        for row, pair in zip(p, PAIRS, strict=True):
            begun = SHORT.prompt(shots) + SHORT.question(pair)
            whole = likelihoods(model, [f"{begun} {word}" for word in asked.words])
            totals = torch.tensor([
                one.log_probabilities[-len(own) :].sum() for one, own in zip(whole, asked.tokens, strict=True)
            ])  # fmt: skip
            assert row == pytest.approx(totals.softmax(0).numpy(), rel=1e-3)


def test_prompts_of_all_arms_differ_in_their_key_words_alone(found: AmplifyResult) -> None:
    prompts, samples = found.facts["prompts"], found.samples()
    assert set(prompts) == ARMS and len(samples) == 2
    for arm in ARMS - {LABELS}:
        expected = [Shot((s["text"], None), s["label"], tuple(s[arm])) for s in samples.iloc[::-1].to_dict("records")]
        assert prompts[arm] == SHORT.prompt(expected)
    assert prompts[LABELS] == SHORT.prompt([
        Shot((s["text"], None), s["label"]) for s in samples.iloc[::-1].to_dict("records")
    ])  # fmt: skip
    for i, sample in enumerate(samples.to_dict("records")):
        assert set(sample[KEY]) < set(sample["text"].split()) and len(sample[KEY]) == 1
        assert set(sample[RANDOM]) == set(sample["text"].split()) - set(sample[KEY])
        assert list(sample[OTHERS]) == list(samples[KEY][1 - i])


def test_only_wrong_samples_are_shown_by_their_score(found: AmplifyResult) -> None:
    samples = found.samples()
    assert (samples["said"] != samples["label"]).all()
    assert samples["score"].is_monotonic_decreasing


def test_figures_come_from_the_rows_and_no_effect_is_said(found: AmplifyResult) -> None:
    assert set(found.controls) == ARMS - {KEY} | {ZERO_SHOT, MAJORITY}
    means = found.rows.groupby("arm")[["right", "probability"]].mean()
    assert found.metrics == pytest.approx(dict(zip(("accuracy", "probability"), means.loc[KEY], strict=True)))
    for arm in (LABELS, RANDOM, OTHERS, ZERO_SHOT):
        assert found.controls[arm]["accuracy"] == pytest.approx(means.loc[arm, "right"])
    assert found.controls[MAJORITY]["accuracy"] == 0.5
    said = [line for line in found.findings if line.startswith(("accuracy", "probability"))]
    assert len(said) == 8
    for line in said:
        low, high = (float(value) for value in line.split("[")[1].split("]")[0].split(", "))
        if low < 0 < high:
            assert line.endswith("no effect shown.")


def test_a_tuned_classifier_is_taken_as_the_proxy() -> None:
    method, model, splits = Amplify.tiny()
    classifier = TextClassifier(tiny("bert"), splits.labels, kind="head", max_length=24)
    before = {name: value.clone() for name, value in classifier.network.state_dict().items()}
    found = method.run(model, splits, proxy=classifier)
    assert found.facts["proxy"] == "tiny-bert"
    assert all(torch.equal(value, before[name]) for name, value in classifier.network.state_dict().items())
    with pytest.raises(TuningError, match="knows the labels"):
        method.run(model, splits, proxy=TextClassifier(tiny("bert"), ("good", "bad"), kind="head"))
    with pytest.raises(TuningError, match="proxy is a str"):
        method.run(model, splits, proxy="minilm")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_the_choice_is_of_wrong_answers_most_confident_first(rows: list[tuple[float, int, int]]) -> None:
    score, answers, y = (np.array(column) for column in zip(*rows, strict=True))
    for balanced in (False, True):
        chosen = Amplify(shots=4, balanced=balanced).choose(score, answers, y)
        assert (answers[chosen] != y[chosen]).all()
        assert (np.diff(score[chosen]) <= 0).all()
        wrong = np.flatnonzero(answers != y)
        assert len(chosen) == min(4, len(wrong)) == len(set(chosen.tolist()))
        if balanced:
            taken, there = (np.bincount(y[at], minlength=3) for at in (chosen, wrong))
            assert all(taken[i] >= min(there[i], taken.max() - 1) for i in range(3))
        elif len(chosen):
            assert score[chosen].min() >= np.delete(score[wrong], np.isin(wrong, chosen)).max(initial=-1)


def test_key_words_are_whole_distinct_and_no_function_words() -> None:
    words = ["The", "film", ",", "the", "Film", "is", "fine", "unread"]
    weights = [0.9, 0.2, 1.0, 0.8, 0.3, 0.7, 0.25, np.nan]
    assert key_words(words, weights, 5) == ("Film", "fine")
    assert key_words(words, weights, 1) == ("Film",)
    assert key_words(["the", "of"], [0.1, 0.2], 5) == ("of", "the"), "there are no others"
    assert key_words(["fine", "film", "day", "dull"], [0.5, 0.0, np.nan, -0.9], 4) == ("fine",), "no clue is made up"
    assert key_words(["the", "dull"], [-0.1, -0.9], 2) == ()
    drawn = random_words(words, ("Film",), np.random.default_rng(0))
    assert drawn in {("fine",), ("unread",)}
    assert set(random_words(["fine", "film"], ("film", "fine"), np.random.default_rng(0))) == {"film", "fine"}


def test_shots_are_dropped_where_the_window_has_no_room() -> None:
    asked = Asked.make(tiny("gpt2"), ("safe", "unsafe"), (), SHORT)
    n = fitting({KEY: SHOTS * 4, LABELS: [replace(s, words=()) for s in SHOTS] * 4}, asked, PAIRS)
    assert 1 <= n < 8
    asked.probabilities((SHOTS * 4)[:n], PAIRS)
    with pytest.raises(DataError, match="take fewer shots"):
        asked.probabilities(SHOTS * 4, PAIRS)
    method, model, splits = Amplify.tiny()
    dropped = replace(method, shots=4, asked=16).run(model, splits)
    assert any("examples were dropped" in line for line in dropped.findings), dropped.findings


def test_bad_input_is_told() -> None:
    method, model, splits = Amplify.tiny()
    with pytest.raises(DataError, match="takes Splits, not list"):
        method.run(model, [])
    with pytest.raises(ModelError, match="prompts need a decoder"):
        method.run(tiny("bert"), splits)
    with pytest.raises(ModelError, match="not str"):
        method.run("smollm2", splits)
    for words, why in (
        (("awful=bad",), "for awful"), (("safe=",), "gets none"), (("safe=fine", "unsafe=fine"), "begins with"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=why):
            replace(method, words=words).run(model, splits)
    for bad in ({"shots": 1}, {"top": 0}, {"checked": 0}, {"attribution": "lime"}):
        with pytest.raises(TuningError, match=next(iter(bad))):
            replace(method, **bad).run(model, splits)
    with pytest.raises(DataError, match="must hold"):
        replace(method, rationale="look here").run(model, splits)
    with pytest.raises(DataError, match=r"gets 1 samples wrong|gets none of"):
        replace(method, asked=1).run(model, splits)
    long = Labelled.make(["film " * 80, "film"], ["safe", "unsafe"], label_names=splits.labels)
    with pytest.raises(DataError, match="longer than the window"):
        method.run(model, replace(splits, verdict=long))


def test_a_reply_stands_on_a_line_of_its_own() -> None:
    assert Wording().question(("how\nare you", " fine ")) == "Q: how are you\nReply: fine\nA: The answer is"
    shot = Shot(("how are you", "fine"), "safe", ("{label}",))
    assert Wording("{words}: {label}.", "So").prompt([shot]) == (
        'Q: how are you\nReply: fine\nA: "{label}": safe. So safe.\n\n'
    )


def chat(server: Server, model: str = "some-model") -> Endpoint:
    return Endpoint(server.url, model, tries=1)


def asked_of(server: Server, number: int) -> str:
    return str(server.asked[number - 1]["messages"][0]["content"])


def test_a_chat_model_is_asked_by_its_address_and_nothing_twice(server: Server, tmp_path: Path) -> None:
    """The server knows two of eight words, and says one label of all others; key words in its examples teach it all."""
    pytest.importorskip("openai")
    method, own, splits = Amplify.tiny()
    method = replace(method, answer="The answer is")
    kinds = {"safe": ("love", "great", "nice", "happy"), "unsafe": ("hate", "awful", "terrible", "sad")}

    def answer(n: int) -> tuple[int, bytes, dict[str, str]]:
        text = asked_of(server, n)
        word = text.split("Q: ")[-1].split()[1]
        taught = any(f'"{w}"' in text for own in kinds.values() for w in own)
        known = next((label for label, own in kinds.items() if word in own[: 4 if taught else 1]), None)
        return said(f"Not {word}. The answer is {known}." if known else "I cannot tell safe from unsafe.")

    server.answer = lambda n: answer(n) if n < 12 else (503, b"", {})
    with pytest.raises(ModelError, match="what was answered is kept"):
        method.run(chat(server), splits, proxy=own, cache=tmp_path)
    before = len(server.asked)
    server.answer = answer
    found = method.run(chat(server), splits, proxy=own, cache=tmp_path)
    assert found.metrics == {"accuracy": 1.0}
    assert found.controls[LABELS]["accuracy"] <= 0.5 and found.controls[ZERO_SHOT]["accuracy"] <= 0.5
    assert found.facts["unread"] > 0 and any("named no label" in said for said in found.findings)
    assert found.facts["model"] == "some-model" and any("better" in said for said in found.findings)
    prompts = [asked_of(server, n + 1) for n in range(len(server.asked))]
    assert len(set(prompts[before:])) == len(prompts[before:]), "nothing is asked twice"
    assert "safe or unsafe" in prompts[-1] and "Q: " in prompts[-1]
    asked = len(server.asked)
    again = method.run(chat(server), splits, proxy=own, cache=tmp_path)
    assert len(server.asked) == asked and again.metrics == found.metrics


def test_a_chat_model_needs_a_proxy_and_words_of_its_own(server: Server) -> None:
    pytest.importorskip("openai")
    method, own, splits = Amplify.tiny()
    server.answer = lambda n: said("The answer is neither.")
    with pytest.raises(TuningError, match="give a proxy"):
        method.run(chat(server), splits)
    with pytest.raises(DataError, match="two labels have one word"):
        replace(method, words=("safe=Same", "unsafe=same")).run(chat(server), splits, proxy=own)


@pytest.mark.parametrize(
    ("answer", "label"),
    [("positive", 1), ("Positive.", 1), ("The answer is negative, not positive.", 0), ("It is positively bad", None),
     ("The answer is negative. No: the answer is positive", 1), ("no idea", None),
     ("The answer is unclear, but positive was said", 1), ("negative or positive", None)],
)  # fmt: skip
def test_the_label_of_an_answer(answer: str, label: int | None) -> None:
    assert label_in(answer, ["negative", "positive", "positive enough"]) == label


def test_of_two_words_that_begin_alike_the_longer_one_was_said() -> None:
    words = ["positive", "positive enough"]
    assert label_in("The answer is positive enough.", words) == 1 and label_in("The answer is positive.", words) == 0
