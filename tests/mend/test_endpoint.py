"""A model behind an address is asked what a decoder is, and heard by the word it writes."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tracemend.errors import DataError, ModelError, TuningError
from tracemend.mend import Amplify, Endpoint
from tracemend.mend.amplify import KEY, ZERO_SHOT
from tracemend.mend.endpoint import AskedThere, heard
from tracemend.mend.rationales import Shot, Wording
from tracemend.models import tiny

pytest.importorskip("openai", reason="the extra llm is not installed")
GOOD = ("love", "great", "nice", "happy")


@contextmanager
def serving(answer: Callable[[str], str], status: int = 200) -> Iterator[tuple[Endpoint, list[dict[str, Any]]]]:
    """A server on this machine that writes ``answer`` of a prompt, and what it was sent."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append({**body, "path": self.path, "key": self.headers["authorization"]})
            message = {"role": "assistant", "content": answer(body["messages"][0]["content"])}
            made = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
                    "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}  # fmt: skip
            text = json.dumps(made if status == 200 else {"error": {"message": "no such model"}}).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Endpoint(url=f"http://127.0.0.1:{server.server_port}/v1", name="large"), seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" positive.", 1),
        ("Not negative. The answer is positive", 1),
        ("POSITIVE, not negative", 1),
        ("very positive", 2),
        ("nonnegative", None),
        ("", None),
    ],
)
def test_the_first_word_behind_the_question_is_heard(text: str, label: int | None) -> None:
    assert heard(text, ("negative", "positive", "very positive"), "The answer is") == label


def test_a_prompt_is_sent_as_a_decoder_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    shots = [Shot(("film", None), "safe", ("film",))]
    with serving(lambda prompt: " unsafe." if prompt.endswith("Q: reply\nA: The answer is") else "?") as (there, seen):
        asked = AskedThere.make(there, ("safe", "unsafe"), (), Wording())
        found = asked.probabilities(shots, [("reply", None), ("movie", None)])
    assert found.tolist() == [[0, 1], [0, 0]]
    assert [one["path"] for one in seen] == ["/v1/chat/completions"] * 2
    assert seen[0]["messages"][0]["content"] == Wording().prompt(shots) + Wording().question(("reply", None))
    assert (seen[0]["model"], seen[0]["temperature"], seen[0]["key"]) == ("large", 0, "Bearer a key")


def test_it_is_amplified_as_a_decoder_is() -> None:
    """It knows the words only where an example names one of them; of some texts it says nothing."""
    method, proxy, splits = Amplify.tiny()

    def answer(prompt: str) -> str:
        asked = prompt.rpartition("Q: ")[2]
        if "reply" in asked:
            return "I cannot say."
        good = any(word in asked for word in GOOD)
        return "safe" if good == ('"' in prompt) else "unsafe"

    with serving(answer) as (there, _):
        found = method.run(there, splits, proxy=proxy)
        with pytest.raises(TuningError, match="proxy is a Endpoint"):
            method.run(there, splits)
        short = replace(there, window=1)
        with pytest.raises(DataError, match="longer than the window of large"):
            method.run(short, splits, proxy=proxy)
    silent = sum("reply" in text for text, _ in splits.verdict.pairs)
    assert found.metrics["accuracy"] == pytest.approx(1 - silent / len(splits.verdict))
    assert found.controls[ZERO_SHOT]["accuracy"] == 0.0
    assert not any("reply" in sample for sample in found.samples()["text"])
    assert any("answers name no label" in line for line in found.findings)
    said = found.rows[found.rows["arm"] == KEY]
    assert (said["said"] == "").sum() == silent and not said.query("said == ''")["right"].any()


def test_what_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = Endpoint(url="http://127.0.0.1:9/v1", name="large", timeout=0.5)
    with pytest.raises(ModelError, match="does not answer"):
        nobody.write(["?"])
    for status, said in ((401, "OPENAI_API_KEY"), (404, "no such model")):
        with serving(lambda _: "", status) as (there, _), pytest.raises(ModelError, match=said):
            there.write(["?"])
    with pytest.raises(DataError, match="two labels have one word"):
        AskedThere.make(nobody, ("a", "b"), ("a=x", "b=X"), Wording())
    with pytest.raises(DataError, match="for c"):
        AskedThere.make(nobody, ("a", "b"), ("c=x",), Wording())
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModelError, match=r"tracemend\[llm\]"):
        nobody.write(["?"])


def test_an_encoder_is_still_refused() -> None:
    method, _, splits = Amplify.tiny()
    with pytest.raises(ModelError, match="prompts need a decoder"):
        method.run(tiny("bert"), splits)
