"""The requests of the page, as a browser makes them and as somebody makes them who means ill."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tracemend.errors import RunError
from tracemend.studio import Session
from tracemend.studio.app import build, serve
from tracemend.studio.security import BODY, checked_host, is_loopback
from tracemend.studio.words import Colours

HERE = "http://127.0.0.1:8760"


class Page(TestClient):
    def change(self, name: str, fields: Any = None, **headers: str) -> Any:
        given = {"origin": HERE, "content-type": "application/json", **headers}
        body = fields if isinstance(fields, bytes) else json.dumps(fields or {}).encode()
        return self.post(f"/api/{name}", content=body, headers={k: v for k, v in given.items() if v})


@pytest.fixture
def page(session: Session) -> Page:
    return Page(build(session, hosts=("127.0.0.1:8760",)), base_url=HERE)


def first(page: Page) -> dict[str, Any]:
    row: dict[str, Any] = page.get("/api/suspects", params={"version": "original"}).json()["rows"][0]
    return row


def decide(page: Page, row: dict[str, Any], actor: str = "Ada", **more: Any) -> Any:
    fields = {"actor": actor, "seen": {row["uid"]: row["seen"]}, "version": "original", "act": "accept", **more}
    return page.change("decide", fields)


def test_the_page_and_its_files_come_from_here_alone(page: Page) -> None:
    answer = page.get("/")
    assert answer.status_code == 200 and "<main" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
    assert not [name for name in answer.headers if name.startswith("access-control")]
    for file in ("main.js", "style.css"):
        text = page.get(f"/static/{file}").text
        assert "https://" not in text and "//cdn" not in text and "innerHTML" not in text


def test_any_sentence_is_asked_of_two_models(page: Page, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(version: str, text: str, *, reply: str | None = None) -> dict[str, float]:
        asked.append((version, text, reply))
        return {"safe": 0.2, "unsafe": 0.8}

    def weighed(version: str, text: str, label: str, *, reply: str | None = None) -> Colours:
        return Colours([("text", f"{version} {label}", 1.0)])

    monkeypatch.setattr(session.speaker, "answer", answer)
    monkeypatch.setattr(session.speaker, "word_colours", weighed)
    both = {"before": "original", "after": "original"}
    found = page.get("/api/sentence", params={**both, "text": " so it goes ", "reply": ""}).json()
    assert asked == [("original", "so it goes", None)] * 2
    assert found["label"] == "unsafe" and [m["words"][0][1] for m in found["models"]] == ["original unsafe"] * 2
    for text, said in (("  ", "type a sentence"), ("x" * 2001, "at most 2000")):
        refused = page.get("/api/sentence", params={**both, "text": text})
        assert refused.status_code == 400 and said in refused.json()["error"]
    assert page.get("/api/sentence", params={"before": "nothing", "after": "original", "text": "a"}).status_code == 400


def test_accept_undo_and_the_ledger(page: Page) -> None:
    row = first(page)
    answer = decide(page, row)
    assert answer.status_code == 200
    [changed] = answer.json()["rows"]
    assert changed["label"] == row["suggestion"] and changed["decision"]["actor"] == "Ada"
    told = page.get("/api/history").json()["rows"][0]
    assert told["reason"] == row["reason"] and told["old"] == row["given"]
    assert page.change("undo", {"actor": "Ada", "version": "original"}).status_code == 200
    assert first(page)["uid"] == row["uid"]
    assert page.change("undo", {"actor": "Ada", "version": "original"}).json()["error"].startswith("there is no")


def test_the_label_it_came_with_is_a_keep(page: Page) -> None:
    row = first(page)
    [changed] = decide(page, row, act="label", value=row["given"]).json()["rows"]
    assert changed["decision"]["kind"] == "keep" and changed["label"] == row["given"]


def test_the_second_of_two_is_told(page: Page) -> None:
    row = first(page)
    assert decide(page, row).status_code == 200
    late = decide(page, row, actor="Bo", act="remove")
    assert late.status_code == 409 and late.json()["conflict"] and "Ada" in late.json()["error"]


def test_nobody_who_decides_waits_for_words(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = threading.Event()

    def slow(*_: Any, **__: Any) -> Colours:
        assert ready.wait(30)
        return Colours([("text", "go", 1.0)])

    monkeypatch.setattr(session.speaker, "word_colours", slow)
    with Page(build(session, hosts=("127.0.0.1:8760",)), base_url=HERE) as page:
        row = first(page)
        asked = {"version": "original", "uid": row["uid"], "label": "safe"}
        # More than there are threads for requests.
        with ThreadPoolExecutor(61) as pool:
            waiting = [pool.submit(page.get, "/api/words", params=asked) for _ in range(60)]
            try:
                time.sleep(0.5)
                assert pool.submit(decide, page, row).result(timeout=10).status_code == 200
                assert not any(one.done() for one in waiting)
            finally:
                ready.set()
            assert {one.result(timeout=30).status_code for one in waiting} == {200}


def test_words_and_comments(page: Page) -> None:
    row = first(page)
    given = {"actor": "Ada", "uid": row["uid"], "word": "hate", "scope": "all", "seen": row["seen"]}
    assert page.change("mark", {**given, "matters": False}).status_code == 200
    example = page.get("/api/example", params={"version": "original", "uid": row["uid"]}).json()
    [mark] = example["words"]
    assert mark.pop("row") > 0
    assert mark == {"word": "hate", "scope": "all", "matters": False, "actor": "Ada"}
    assert decide(page, {**row, "seen": example["seen"]}, act="comment", value="why?").status_code == 200
    again = page.get("/api/example", params={"version": "original", "uid": row["uid"]}).json()
    assert [c["new"] for c in again["comments"]] == ["why?"]


def test_a_refused_request_writes_nothing(page: Page) -> None:
    row, before = first(page), page.get("/api/pulse").json()["ledger"]
    asked = {"actor": "Ada", "version": "nope", "seen": {row["uid"]: row["seen"]}, "act": "remove"}
    assert page.change("decide", asked).status_code == 400
    half = {**asked, "version": "original", "act": "comment", "value": "\ud800"}
    assert page.change("decide", json.dumps(half).encode()).status_code == 400
    assert page.get("/api/pulse").json()["ledger"] == before


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://127.0.0.1:8761", "https://127.0.0.1:8760"]
)
def test_a_change_from_another_page_is_refused(page: Page, origin: str) -> None:
    row = first(page)
    answer = page.change("decide", {"actor": "Ada", "seen": {row["uid"]: row["seen"]}, "act": "remove"}, origin=origin)
    assert answer.status_code == 403
    assert first(page)["decision"] is None


def test_other_sites_forms_hosts_and_sockets_are_refused(page: Page) -> None:
    assert page.change("use", {"version": "original"}, **{"sec-fetch-site": "cross-site"}).status_code == 403
    assert page.change("use", b"version=original", **{"content-type": "text/plain"}).status_code == 415
    assert page.get("/api/state", headers={"host": "evil.example"}).status_code == 421
    assert page.get("/api/decide").status_code == 405
    with pytest.raises(WebSocketDisconnect), page.websocket_connect("/api/pulse"):
        pass


def test_too_much_is_refused_before_it_is_read(page: Page) -> None:
    assert page.change("use", b"x" * (BODY + 1)).status_code == 413
    assert page.change("use", {"version": "x" * 600}).json()["error"].endswith("at most 500 are taken.")


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("decide", {"actor": "Ada"}, "seen must name 1 to 500"),
        ("decide", {"actor": "Ada", "seen": {}, "act": "accept"}, "seen must name 1 to 500"),
        ("decide", {"actor": "Ada", "seen": {"x": "1"}, "act": "accept"}, "row of the ledger"),
        ("decide", {"actor": "Ada", "seen": {"x": 0}, "version": "original", "act": "accept"}, "has the uid 'x'"),
        ("decide", {"actor": "Ada", "seen": {"x": 0}, "version": "original", "act": "explode"}, "not one of: accept"),
        ("undo", {"version": "original"}, "actor is missing"),
        ("undo", {"version": "original", "actor": "Ada", "row": 1.5}, "whole number"),
        ("mark", {"uid": "../x", "version": "original"}, "has the uid"),
        ("use", {"version": "../../x"}, "not one of: original"),
        ("cancel", {}, "nothing to cancel"),
        ("retrain", {"actor": "Ada", "basis": "people", "version": "original"}, "decide first"),
        ("retrain", {"actor": "Ada", "basis": "mine", "version": "original"}, "not one of: people, all"),
    ],
)
def test_bad_requests_say_what_was_expected(page: Page, name: str, fields: dict[str, Any], message: str) -> None:
    answer = page.change(name, fields)
    assert answer.status_code == 400 and message in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_json_is_said(page: Page, body: bytes) -> None:
    answer = page.change("use", body)
    assert answer.status_code == 400 and "no JSON" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/take/original/..%2f..%2fresult.json"])
def test_no_file_but_ours_is_given(page: Page, path: str) -> None:
    answer = page.get(path)
    assert answer.status_code in (400, 404) and "def " not in answer.text


def test_a_token_is_asked_for_and_a_wrong_one_is_told(session: Session) -> None:
    there = Page(build(session, token="s3cret"), base_url="http://192.0.2.7:8760")
    assert there.get("/").status_code == 401
    wrong = there.get("/", params={"token": "guess"})
    assert wrong.status_code == 401 and "not the one" in wrong.text
    assert there.get("/api/state", params={"token": "s3cret"}).status_code == 401
    right = there.get("/", params={"token": "s3cret"})
    cookie = right.headers["set-cookie"]
    assert right.status_code == 200 and "SameSite=Strict" in cookie and "HttpOnly" in cookie and "s3cret" not in cookie
    assert there.get("/").status_code == 200 and there.get("/api/state").status_code == 200
    there.cookies.set("tracemend-8760", "forged")
    there.cookies.clear()
    assert there.get("/api/state", headers={"cookie": "tracemend-8760=forged"}).status_code == 401
    assert there.get("/api/state", headers={"cookie": 'tracemend-8760="'}).status_code == 401


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)]
)
def test_loopback(host: str, local: bool) -> None:
    assert is_loopback(checked_host(host)) is local


def test_two_studios_of_one_host_do_not_log_each_other_s_visitors_out(session: Session) -> None:
    studios = {port: build(session, token=f"of {port}") for port in (8760, 8761)}
    cookies: dict[str, str] = {}  # browsers keep one jar for all ports of a host
    for port, studio in studios.items():
        there = Page(studio, base_url=f"http://192.0.2.7:{port}")
        cookies |= there.get("/", params={"token": f"of {port}"}).cookies
    for port, studio in studios.items():
        there = Page(studio, base_url=f"http://192.0.2.7:{port}", cookies=cookies)
        assert there.get("/api/state").status_code == 200


@pytest.mark.parametrize(
    ("port", "token", "base"), [(8760, "a+b&c=d%25 é", "http://127.0.0.1:8760"), (80, None, "http://127.0.0.1")]
)
def test_the_address_that_is_said_can_be_opened(
    run: Path, monkeypatch: pytest.MonkeyPatch, port: int, token: str | None, base: str
) -> None:
    """Browsers take a plus sign of a link for a blank, and leave out the port of http itself."""
    from tracemend.studio import app

    class Listening:
        def getsockname(self) -> tuple[str, int]:
            return "127.0.0.1", port

    made: list[Any] = []
    said: list[str] = []

    def guarded(*args: Any, **options: Any) -> Any:
        made.append(build(*args, **options))
        return made[0]

    monkeypatch.setattr(app, "build", guarded)
    monkeypatch.setattr(app, "_listen", lambda *_: Listening())
    monkeypatch.setattr(app, "look_at", lambda _: None)
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    serve(run, port=port, token=token, say=said.append)
    assert said[0].startswith(f"http://127.0.0.1:{port}/")
    asked = said[0].removeprefix(f"http://127.0.0.1:{port}")
    assert Page(made[0], base_url=base).get(asked).status_code == 200


def test_an_address_that_is_none_is_refused(run: Path) -> None:
    with pytest.raises(RunError, match="is no address"):
        serve(run, host="example.invalid")
    with pytest.raises(RunError, match="the token is empty"):
        serve(run, host="0.0.0.0", token=" ")


def test_a_port_that_is_taken_is_said(run: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RunError, match="choose another --port"):
            serve(run, port=taken.getsockname()[1])
