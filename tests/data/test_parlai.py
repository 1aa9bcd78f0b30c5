import json

import pytest

from tracemend.data import bot_adversarial_dialogue, multi_turn_safety, parlai, single_turn_safety
from tracemend.errors import DataError


def item(text, label):
    return {"text": text, "labels": [label], "episode_done": True}


@pytest.fixture
def single(save):
    def rounds(name):
        return {
            str(r): {"good": [item(f"{name} good {r}", "__ok__")], "bad": [item(f"{name} bad {r}", "__notok__")]}
            for r in (1, 2, 3)
        }

    dump = {c: {f: rounds(f"{c} {f}") for f in ("train", "valid", "test")} for c in ("standard", "adversarial")}
    return save("single_turn_safety.json", json.dumps(dump))


def test_single_turn(single):
    data, notes = single_turn_safety(single, collection="adversarial", fold="valid", round=2)
    assert list(data.frame["text"]) == [f"adversarial valid {q} {r}" for r in (1, 2) for q in ("good", "bad")]
    assert list(data.frame["label"]) == ["__ok__", "__notok__"] * 2
    assert data.positive == "__notok__"
    assert "is not the published file" in notes[0]
    assert len(single_turn_safety(single, round=3, round_only=True).data) == 2


def test_the_published_file_is_recognised(single, monkeypatch):
    import hashlib

    monkeypatch.setattr(parlai, "_SINGLE_TURN", hashlib.sha256(single.read_bytes()).hexdigest())
    assert "is the published file" in single_turn_safety(single).notes[0]


def test_single_turn_refusals(single, save, tmp_path):
    with pytest.raises(DataError, match="did you mean 'adversarial'"):
        single_turn_safety(single, collection="adverserial")
    with pytest.raises(DataError, match="not one of: 1, 2, 3"):
        single_turn_safety(single, round=4)
    with pytest.raises(DataError, match="there is no file"):
        single_turn_safety(tmp_path / "none.json")
    with pytest.raises(DataError, match="is not JSON"):
        single_turn_safety(save("a.json", "{"))
    with pytest.raises(DataError, match="another layout"):
        single_turn_safety(save("b.json", "[]"))


def test_multi_turn(save):
    dump = {"train": [item("hi\nhello\ngo away", "__notok__"), item("only this", "__ok__")]}
    data, _ = multi_turn_safety(save("multi_turn_safety.json", json.dumps(dump)))
    assert data.pairs == [("hi\nhello", "go away"), ("only this", None)]


BAD = (
    "text:Hi\tlabels:__ok__\tspeaker_to_eval:human\tbot_persona:p\tepisode_done:True\n"
    "text:Hi\\nGo: away\tlabels:__notok__\tspeaker_to_eval:bot\tbot_persona:p\tepisode_done:True\n"
    "text:Hi\\nGo: away\\nWhy?\tlabels:__ok__\tspeaker_to_eval:human\tbot_persona:p\tepisode_done:True\n"
    "text:Bad start\tlabels:__notok__\tspeaker_to_eval:human\tbot_persona:q\tepisode_done:True\n"
)


def test_bot_adversarial_dialogue(save):
    path = save("train.txt", BAD)
    data, notes = bot_adversarial_dialogue(path, turns=2)
    assert data.pairs == [("Hi", None), ("Hi", "Go: away"), ("Go: away", "Why?"), ("Bad start", None)]
    assert list(data.frame["label"]) == ["__ok__", "__notok__", "__ok__", "__notok__"]
    assert list(data.frame["group"]) == ["dialogue-0"] * 3 + ["dialogue-1"]
    assert len(notes) == 1
    human = bot_adversarial_dialogue(path, speaker="human", turns=None).data
    assert human.pairs == [("Hi", None), ("Hi\nGo: away", "Why?"), ("Bad start", None)]


def test_bot_adversarial_dialogue_as_json_lines(save):
    lines = [
        {"text": "Hi", "labels": ["__ok__"], "dialogue_id": 7, "speaker_to_eval": "human"},
        {"text": "Hi\nGo away", "labels": ["__notok__"], "dialogue_id": 7, "speaker_to_eval": "bot"},
    ]
    data, _ = bot_adversarial_dialogue(save("train.jsonl", "\n".join(map(json.dumps, lines))))
    assert data.pairs == [("Hi", None), ("Hi", "Go away")]
    assert list(data.frame["group"]) == ["7", "7"]


def test_bot_adversarial_dialogue_refusals(save):
    with pytest.raises(DataError, match="line 1 has no text"):
        bot_adversarial_dialogue(save("a.txt", "hello\n"))
    with pytest.raises(DataError, match="'__bad__' of item 0"):
        bot_adversarial_dialogue(save("b.txt", "text:a\tlabels:__bad__\n"))
    with pytest.raises(DataError, match="speaker 'robot'"):
        bot_adversarial_dialogue(save("c.txt", BAD), speaker="robot")
    with pytest.raises(DataError, match="all 1 labels"):
        bot_adversarial_dialogue(save("c.txt", BAD), speaker="bot")
    with pytest.raises(DataError, match="1 or more"):
        bot_adversarial_dialogue(save("c.txt", BAD), turns=0)
