"""A chat model behind a web address: asked by its protocol, given up in time, and never asked twice."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chat_server import JSON, Server, said
from tracemend.errors import ModelError
from tracemend.models.endpoint import Endpoint, KeptAnswers

pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's pauses between tries, shortened."""
    import openai._base_client as client

    monkeypatch.setattr(client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr(client, "MAX_RETRY_DELAY", 0.02)


def endpoint(server: Server, **options: Any) -> Endpoint:
    return Endpoint(server.url, "some-model", **{"timeout": 5.0, "tries": 3, **options})


def test_it_is_asked_by_its_protocol(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint(server).answer([{"role": "user", "content": "hi"}]) == "words for things"
    assert server.asked[0]["path"] == "/v1/chat/completions" and server.asked[0]["model"] == "some-model"
    assert server.asked[0]["temperature"] == 0 and server.keys == [None]
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    endpoint(server).answer([])
    assert server.keys[1] == "Bearer secret"


@pytest.mark.parametrize(
    "first",
    [(500, b"", {}), (429, b"", {"Retry-After": "0"}), (200, b"<html>", {}), (200, b'{"choices": []}', JSON),
     (200, b'{"choices": [{"message": {"content": null}}]}', JSON), (200, b"{", JSON),
     (200, b'{"choices": [{"message": {"content": "42"}}]}', JSON),
     (200, b"\xff\xfe", JSON)],
    ids=str,
)  # fmt: skip
def test_what_may_pass_is_tried_again(server: Server, first: Any) -> None:
    server.answer = lambda n: first if n < 3 else said("at last")
    assert endpoint(server).answer([]) == "at last"
    assert len(server.asked) == 3


def test_a_refusal_is_not_tried_again(server: Server) -> None:
    server.answer = lambda n: (401, b"", {})
    with pytest.raises(ModelError, match="401") as caught:
        endpoint(server).answer([])
    assert len(server.asked) == 1 and "OPENAI_API_KEY" in str(caught.value)


def test_nonsense_is_given_up_after_the_tries(server: Server) -> None:
    server.answer = lambda n: (200, b"nonsense", {})
    with pytest.raises(ModelError, match="cannot be read"):
        endpoint(server).answer([])
    assert len(server.asked) == 3


def test_a_slow_one_is_given_up(server: Server) -> None:
    def slow(_: int) -> tuple[int, bytes, dict[str, str]]:
        time.sleep(0.5)
        return said("late")

    server.answer = slow
    with pytest.raises(ModelError, match=r"within 0.1 s"):
        endpoint(server, timeout=0.1, tries=2).answer([])


def test_one_that_is_down_says_so() -> None:
    with pytest.raises(ModelError, match="cannot be reached"):
        Endpoint("http://127.0.0.1:9/v1", "some-model", tries=2, timeout=1.0).answer([])


@pytest.mark.parametrize(
    ("given", "message"),
    [({"url": "localhost"}, "expected an address"), ({"model": ""}, "name of a model"), ({"timeout": 0}, "timeout"),
     ({"tries": 0}, "tries")],
)  # fmt: skip
def test_bad_settings(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Endpoint(**{"url": "http://localhost:1/v1", "model": "some-model", **given})


def test_without_the_client_the_remedy_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModelError, match=r"pip install 'tracemend\[llm\]'"):
        endpoint(server).answer([])


def question(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"question {number}"}]


def test_answers_are_kept_and_a_stopped_run_goes_on(server: Server, tmp_path: Path) -> None:
    asked = [question(n) for n in (1, 2, 3, 2)]
    server.answer = lambda n: said(f"answer {n}") if n < 3 else (403, b"", {})
    with pytest.raises(ModelError, match="what was answered is kept"):
        KeptAnswers(endpoint(server), tmp_path / "answers.jsonl", at_once=1).answers(asked)
    with (tmp_path / "answers.jsonl").open("a") as file:
        file.write('{"asked": "torn')  # as a kill leaves it
    server.answer = lambda n: said(f"answer {n}")
    found = KeptAnswers(endpoint(server, tries=9), tmp_path / "answers.jsonl", at_once=1).answers(asked)
    assert found == ["answer 1", "answer 2", "answer 4", "answer 2"] and len(server.asked) == 4
    KeptAnswers(endpoint(server), tmp_path / "answers.jsonl").answers(asked)
    assert len(server.asked) == 4  # nothing is asked twice, though half a line stood before
    other = Endpoint(server.url, "another-model")
    assert KeptAnswers(other, tmp_path / "answers.jsonl").answers(asked[:1]) == ["answer 5"]


def test_answers_come_in_the_order_of_the_questions(server: Server) -> None:
    server.answer = lambda n: said(f"about {server.asked[n - 1]['messages'][0]['content']}")
    found = KeptAnswers(endpoint(server), at_once=1).answers([question(n) for n in range(6)])
    assert found == [f"about question {n}" for n in range(6)]
