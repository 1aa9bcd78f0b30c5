"""Prompting: answers by hand, examples read once, and what the spread over wordings is made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.marked import marked
from tracemend.data import Labelled, Splits
from tracemend.errors import ModelError, ProbeError
from tracemend.evaluate import mean_interval
from tracemend.models import tiny
from tracemend.models.representations import padded
from tracemend.probing import PromptingProbe, prompted
from tracemend.probing.prompted import Prompter, check_template
from tracemend.probing.tuned_prefix import prefix_hits


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_answers_are_those_of_the_whole_prompt_read_at_once(architecture):
    model = tiny(architecture)
    prompter = Prompter.make(model, ["bad", "good"])
    texts = ["my film", "people hate this awful movie", "so nice"]
    examples = [("great people", 1), ("awful", 0)]
    found = prompter.answers("[X] is [Y]", texts, examples, batch_size=2)
    before = "great people is good\n\nawful is bad\n\n"
    for text, said in zip(texts, found, strict=True):
        pieces = (before, f"{text} is")
        ids = [model.tokenizer.bos_token_id]
        ids += [t for piece in pieces for t in model.tokenizer(piece, add_special_tokens=False).input_ids]
        with torch.no_grad():
            logits = model.network(input_ids=torch.tensor([ids])).logits[0, -1]
        words = [model.tokenizer(f" {w}", add_special_tokens=False).input_ids[0] for w in ("bad", "good")]
        assert said == int(logits[words].argmax())


def test_a_question_behind_examples_is_cut_into_tokens_as_the_whole_prompt_is(monkeypatch):
    model, read = marked(), []

    def noted(network, rows):
        read.append(list(rows))
        return padded(network, rows)

    monkeypatch.setattr(prompted, "padded", noted)
    texts = ["my film was", "good"]
    Prompter.make(model, ["bad", "good"]).answers("[X] is [Y]", texts, [("my film", 1), ("film", 0)], batch_size=1)
    whole = [f"my film is good\n\nfilm is bad\n\n{text} is" for text in ("good", "my film was")]
    begin = [model.tokenizer.bos_token_id]
    expected = [begin + model.tokenizer(text, add_special_tokens=False).input_ids for text in whole]
    (prefix,), *questions = read
    assert [prefix + row for (row,) in questions] == expected


def test_an_answer_does_not_depend_on_the_batch():
    prompter = Prompter.make(tiny("gpt2"), ["bad", "good"])
    texts = ["my film", "people hate this awful movie", "so nice", "very sad", "you love it"]
    one = [prompter.answers("[X] is [Y]", [text], [("great", 1)])[0] for text in texts]
    assert prompter.answers("[X] is [Y]", texts, [("great", 1)]).tolist() == one


def test_labels_stand_in_the_template():
    prompter = Prompter.make(tiny("gpt2"), ["bad", "good"])
    assert prompter._asks("is it {labels}? [X] answer: [Y]", "so [Y]") == "is it bad or good? so [Y] answer:"


@pytest.fixture(scope="module")
def found():
    method, model, data = PromptingProbe.tiny()
    return method.run(model, data)


def test_rows_and_controls(found):
    table = found.table()
    assert table["order"].tolist() == [-1, -1, 0, 1, 0, 1]
    assert set(found.controls) == {"random_weights", "nonsense", "wrong_labels", "same_examples", "majority"}
    zero = table[table["order"] < 0]
    assert found.metrics["zero_shot"] == pytest.approx(zero["accuracy"].mean())
    assert found.metrics["zero_shot_chosen"] == zero.loc[zero["dev_accuracy"].idxmax(), "accuracy"]
    few = table[table["order"] >= 0]["accuracy"]
    assert (found.metrics["few_shot_least"], found.metrics["few_shot_most"]) == (few.min(), few.max())


def test_the_probe_reads_what_the_prompt_does_not_say(found):
    # The vectors hold the words, which say the label; a network that was never trained says nothing of it.
    assert found.metrics["diagnostic"] == 1.0 > found.metrics["zero_shot"]
    assert any("is worse than the diagnostic probe" in said for said in found.findings)


def test_a_prompt_that_gives_one_answer_is_counted(found):
    stuck = (found.rows["one_answer"] >= 0.95).sum()
    assert any(s.startswith(f"{stuck} of 6 prompts give one answer") for s in found.findings) == bool(stuck)


def test_wrong_labels_are_wrong():
    from tracemend.probing.prompting import _Asked
    from tracemend.progress import Progress

    method, model, data = PromptingProbe.tiny()
    parts = method._parts(data)
    asked = _Asked(method._prompter(model, parts), method, parts, Progress())
    for order in range(2):
        right, wrong = asked._shown(order, False), asked._shown(order, True)
        assert [t for t, _ in right] == [t for t, _ in wrong]
        assert all(a != b for (_, a), (_, b) in zip(right, wrong, strict=True))
        assert sorted(y for _, y in right) == [0, 1]


def test_prompts_and_probe_read_the_reply_as_well(monkeypatch):
    method, model, data = PromptingProbe.tiny()
    words = [text.split() for text, _ in data.pairs]
    replied = Labelled.make([w[1] for w in words], data.frame["label"], replies=[w[0] for w in words])
    seen, answers = [], Prompter.answers

    def noted(self, template, texts, examples, **given):
        seen.extend([*texts, *(text for text, _ in examples)])
        return answers(self, template, texts, examples, **given)

    monkeypatch.setattr(Prompter, "answers", noted)
    found = replace(method, prefix=0).run(model, replied)
    whole = {f"{text} {reply}" for text, reply in replied.pairs}
    assert set(seen) | set(found.facts["examples"]) <= whole
    # The label lies in the reply alone.
    assert found.metrics["diagnostic"] == 1.0


def test_intervals_resample_groups(monkeypatch):
    method, model, data = PromptingProbe.tiny()
    texts, labels = data.frame["text"], data.frame["label"]
    grouped = Labelled.make(texts, labels, groups=[f"{label}{i // 8}" for i, label in enumerate(labels)])
    asked = []

    def watched(values, groups=None, **given):
        asked.append(groups)
        return mean_interval(values, groups, **given)

    monkeypatch.setattr("tracemend.probing.prompting.mean_interval", watched)
    method = replace(method, templates=method.templates[:1], prefix=0, orders=1, seed=1)
    method.run(model, grouped)
    own = method._parts(grouped)["test"].group_ids.tolist()
    assert len(set(own)) < len(own) and all(groups == own for groups in asked)


def test_a_tuned_prefix_stands_beside_the_probe_and_its_control(found):
    assert {"prefix", "diagnostic"} <= set(found.metrics) & set(found.controls["random_weights"])
    assert found.controls["majority"]["prefix"] == found.controls["majority"]["zero_shot"]
    assert sum(s.startswith("the tuned prefix") for s in found.findings) == 4
    method, model, data = PromptingProbe.tiny()
    without = replace(method, prefix=0).run(model, data)
    assert "prefix" not in without.metrics and without.metrics["diagnostic"] == found.metrics["diagnostic"]


@pytest.mark.slow
def test_a_prefix_learns_and_leaves_the_network_alone():
    method, model, data = PromptingProbe.tiny()
    parts, words = method._parts(data), {"good": "good", "bad": "bad"}
    before = {name: p.clone() for name, p in model.network.named_parameters()}

    def tuned(train, epochs):
        told = {**parts, "train": train, "dev": train}
        return prefix_hits(model, told, words, tokens=4, epochs=epochs, learning_rate=0.1, batch_size=8)

    y = np.array(data.labels)[data.y]
    where = {label: np.flatnonzero(y == label) for label in words}
    # The network knows nothing: from few texts of the other label only the frequent one is learnt.
    for often, seldom in (("good", "bad"), ("bad", "good")):
        few = data.take(np.concatenate([where[often][:24], where[seldom][:1]]))
        assert tuned(few, 2).tolist() == [float(label == often) for label in np.array(data.labels)[parts["test"].y]]
    # Its vectors hold the words, so enough tuning finds them: a prefix is a probe, and needs its control.
    both = data.take(np.concatenate([where["good"][:24], where["bad"][:24]]))
    assert tuned(both, 15).mean() > 0.8
    assert all(torch.equal(p, before[name]) and p.requires_grad for name, p in model.network.named_parameters())


def test_bad_input():
    method, model, data = PromptingProbe.tiny()
    for template in ("[X] is", "is it [Y]", "[Y] is [X]"):
        with pytest.raises(ProbeError, match="must hold"):
            check_template(template)
    with pytest.raises(ProbeError, match=r"encoder; prompts"):
        method.run(tiny("bert"), data)
    with pytest.raises(ProbeError, match="tokens and the window"):
        replace(method, shots=5).run(model, data)
    with pytest.raises(ProbeError, match="do not all differ"):
        replace(method, words=("good=xa", "bad=xb")).run(model, data)
    with pytest.raises(ProbeError, match="prefix is -1; it must be at least 0"):
        replace(method, prefix=-1).run(model, data)
    with pytest.raises(ProbeError, match="words are given for worse"):
        replace(method, words=("worse=bad",)).run(model, data)
    good = data.take(np.flatnonzero(data.y == data.labels.index("good")))
    with pytest.raises(ProbeError, match="fewer than 1 texts of bad"):
        method.run(model, Splits(train=good, validation=data, verdict=data))
    lone = tiny("gpt2")
    lone.tokenizer.bos_token = None
    with pytest.raises(ModelError, match="bos"):
        method.run(lone, data)


def test_words_behind_a_vocabularys_mark_differ_in_their_first_token():
    assert Prompter.make(marked(), ["bad", "good"]).tokens == tuple(marked().tokenizer("bad good").input_ids)
