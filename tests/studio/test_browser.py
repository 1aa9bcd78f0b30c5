"""The studio as a person uses it, in headless Chromium."""

from __future__ import annotations

import csv
import io
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.browser import CHROMIUM, DRIVER, LACKING, Person, Server, browsing, serving
from tests.studio.conftest import HOSTILE, worker_of
from tracemend.studio import Session

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=LACKING)]
pytest.importorskip("selenium")

ESCAPE = "\ue00c"
ENTER = "\ue007"
BACKSPACE = "\ue003"


# JavaScript, as the package hands it on.
_YOUNGER = '{"rules": {"dlitem": {"enabled": false}, "definition-list": {"enabled": false}}}'


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    with browsing() as driver:
        yield driver


@pytest.fixture
def server(run: Path) -> Iterator[Server]:
    with serving(run) as found:
        yield found


@pytest.fixture
def ada(window: Any, server: Server) -> Person:
    person = Person(window, server.url)
    person.faults()  # those of the test before are not this one's
    return person


def test_who_looks_where_in_an_error(ada: Person, server: Server) -> None:
    ada.open("?show=all")
    ada.press("j")
    ada.until(lambda: ada.all("[data-testid=attention]"))
    assert not ada.all(".token")
    ada.click("attention")
    tokens = ada.until(lambda: ada.all(".patterns .token"), 60)  # the model is loaded first
    assert len(tokens) > 2
    assert "looks at" in ada.all(".patterns .said")[0].text
    ada.click("attention")
    ada.until(lambda: not ada.all(".token"))
    assert not ada.faults()


def test_what_a_unit_does_in_an_error(ada: Person, server: Server) -> None:
    ada.open("?show=all")
    ada.press("j")
    ada.click("units")
    ada.says("Chosen because", "[data-testid=unit-note]", seconds=60)
    number = ada.named("unit-number")
    number.send_keys("3", ENTER)
    ada.says("Unit 3 of", "[data-testid=unit-note]")
    assert server.get("pulse")["reviewed"] == 0  # the digit was no label
    assert "Chosen because" not in ada.named("unit-note").text and ada.all("[data-testid=unit-text] p")
    number.send_keys("333", ENTER)
    ada.says("out of range", ".patterns")
    [fault] = ada.faults()  # the refusal, and nothing else
    assert "unit=3333" in fault and "400" in fault
    ada.click("attention")  # one view at a time
    ada.until(lambda: ada.all(".patterns .token") and not ada.all("[data-testid=unit-number]"))
    assert not ada.faults()


def test_from_an_error_to_a_model_that_can_be_taken_along(ada: Person, server: Server, run: Path) -> None:
    ada.open("?show=all")
    ada.press("j")
    ada.until(lambda: ada.all("[data-testid=card]"))
    ada.press(ENTER)  # to the evidence
    uid = ada.until(lambda: ada.all(".card.here"))[0].get_attribute("data-uid")
    before = server.get("example", version="original", uid=uid)
    other = 2 if before["given"] == "safe" else 1
    ada.press(str(other))
    ada.says("labelled", "#toast")
    assert server.get("example", version="original", uid=uid)["decision"]["actor"] == "Ada"
    ada.press("u")
    ada.says("taken back", "#toast")
    assert server.get("example", version="original", uid=uid)["decision"] is None

    ada.click("tab-suspects")
    ada.until(lambda: ada.all("[data-testid=row]"))
    ada.press("j")

    def here() -> str | None:
        found: str | None = ada.until(lambda: ada.all("[data-testid=row].here"))[0].get_attribute("data-uid")
        return found

    for n in range(1, 5):
        at = ada.until(here)
        ada.press("a")
        ada.until(lambda n=n: server.get("pulse")["reviewed"] == n)  # type: ignore[misc]
        ada.until(lambda at=at: here() not in (at, None))  # type: ignore[misc]

    ada.click("tab-retrain")
    ada.says("4 examples looked at by people", "[data-testid=summary]")
    ada.click("retrain")
    worker = worker_of(run)
    worker.suspend()  # so that it is in mid-training for certain
    ada.named("stage")
    ada.open("?tab=retrain")
    ada.named("stage"), ada.named("cancel")
    assert server.get("pulse")["job"]["state"] == "running" and not ada.all("[data-testid=job-compare]")
    worker.resume()
    ada.until(lambda: ada.all("[data-testid=job-compare]"), 90)
    ada.click("job-compare")
    ada.says("Average precision", seconds=30)
    assert "before=original" in ada.driver.current_url and "after=0001" in ada.driver.current_url
    ada.named("gone"), ada.named("new"), ada.named("verdict")

    link = ada.named("take-repaired.csv").get_attribute("href")
    with urllib.request.urlopen(link) as answer:
        rows = list(csv.DictReader(io.StringIO(answer.read().decode())))
    given = Session(run).splits.train
    changed = [row for row, label in zip(rows, given.frame["label"], strict=True) if row["label"] != label]
    assert len(changed) == 4
    assert ada.faults() == []


def test_the_page_outlives_a_worker_that_crashes_or_is_cancelled(ada: Person, server: Server, run: Path) -> None:
    before = server.get("state")["versions"]
    [row] = server.get("suspects", version="original", limit=1)["rows"]
    asked = {"actor": "Ada", "version": "original", "seen": {row["uid"]: row["seen"]}, "act": "accept"}
    server.post("decide", asked)
    ada.open("?tab=retrain")
    ada.click("retrain")
    ada.named("stage")
    worker_of(run).kill()
    ada.until(lambda: ada.all("[data-testid=job-state][data-state=failed]"))
    ada.says("without a result")
    ada.click("tab-suspects")
    ada.until(lambda: ada.all("[data-testid=row]"))
    ada.press("j")
    ada.until(lambda: ada.all(".row.here"))
    ada.press("x")
    ada.until(lambda: server.get("pulse")["reviewed"] == 2)
    ada.click("tab-retrain")
    ada.click("retrain")
    ada.click("cancel")
    ada.until(lambda: ada.all("[data-testid=job-state][data-state=cancelled]"))
    assert [v["name"] for v in server.get("state")["versions"]] == [v["name"] for v in before]


def test_what_was_decided_is_undone_by_key_after_a_restart(window: Any, run: Path) -> None:
    with serving(run) as server:
        ada = Person(window, server.url)
        ada.open("?tab=suspects")
        ada.press("j")
        ada.press("a")
        ada.until(lambda: server.get("pulse")["reviewed"] == 1)
    with serving(run) as server:
        ada = Person(window, server.url)
        ada.open()
        ada.press("u")
        ada.says("1 taken back", "#toast")
        assert server.get("pulse")["reviewed"] == 0


def test_a_run_that_nobody_looked_at_is_prepared_while_the_page_waits(window: Any, run: Path) -> None:
    for file in (run / "studio" / "versions" / "original").iterdir():
        file.unlink()
    with serving(run) as server:
        ada = Person(window, server.url)
        ada.open()
        ada.until(lambda: ada.all("[data-testid=row]"), 60)
        ada.until(lambda: server.get("pulse")["job"]["state"] == "done", 60)
        ada.press("j")
        ada.until(lambda: ada.all("[data-testid=card]"), 30)


def test_the_second_of_two_people_is_told(ada: Person, server: Server) -> None:
    ada.open("?tab=suspects")
    ada.press("j")
    uid = ada.until(lambda: ada.all(".row.here"))[0].get_attribute("data-uid")
    row = server.get("example", version="original", uid=uid)
    server.post("decide", {"actor": "Bo", "seen": {uid: row["seen"]}, "version": "original", "act": "remove"})
    ada.press("a")
    ada.says("Bo", "#toast")
    assert [d["actor"] for d in server.get("example", version="original", uid=uid)["history"]][-1] == "Bo"


def test_several_at_once(ada: Person, server: Server) -> None:
    ada.open("?tab=suspects")
    for keys in ("j", " ", "j", " ", "j", " "):
        ada.press(keys)
    ada.says("3 chosen", "[data-testid=chosen]")
    ada.press("x")
    ada.until(lambda: server.get("pulse")["reviewed"] == 3)
    ada.press("u")
    ada.until(lambda: server.get("pulse")["reviewed"] == 0)


def test_without_a_keyboard(ada: Person, server: Server) -> None:
    ada.open("?tab=suspects")
    ada.until(lambda: ada.all("[data-testid=row] input"))
    for n in range(2):
        ada.driver.execute_script("document.querySelector('.rows .row:not(.chosen) input').click()")
        ada.says(f"{n + 1} chosen", "[data-testid=chosen]")
    ada.click("remove-all")
    ada.until(lambda: server.get("pulse")["reviewed"] == 2)
    ada.until(lambda: not ada.text("[data-testid=chosen]"))
    ada.click("toast-undo")
    ada.until(lambda: server.get("pulse")["reviewed"] == 0)
    ada.open("?show=all")
    ada.until(lambda: ada.all("[data-testid=row]"))[0].click()
    ada.named("choose")
    for n in range(3):
        ada.driver.execute_script("document.querySelector('.card:not(.chosen) [data-testid=choose]').click()")
        ada.says(f"{n + 1} chosen", "[data-testid=chosen]")
    ada.click("label-all-1")
    ada.until(lambda: server.get("pulse")["reviewed"] == 3)


def test_only_one_label(ada: Person) -> None:
    from selenium.webdriver.support.ui import Select

    ada.open("?show=all&q=-nothing")
    Select(ada.named("by-label")).select_by_visible_text("unsafe")
    ada.until(lambda: "label%3Aunsafe" in ada.driver.current_url)
    labels = ada.until(lambda: [one.text for one in ada.all("[data-testid=row] .c-label .chip:first-of-type")])
    assert set(labels) == {"unsafe"}
    assert ada.named("search").get_attribute("value") == "label:unsafe -nothing"
    Select(ada.named("by-label")).select_by_visible_text("Any label")
    ada.until(lambda: ada.named("search").get_attribute("value") == "-nothing")


def test_a_link_opens_the_same_view(ada: Person, server: Server) -> None:
    ada.open("?show=all&sort=confidence&desc=0&q=label%3Asafe")
    ada.press("jj")
    uid = ada.until(lambda: ada.all(".row.here"))[0].get_attribute("data-uid")
    link = ada.until(lambda: uid in ada.driver.current_url and ada.driver.current_url)
    title = ada.until(lambda: ada.text("[data-testid=detail] .text"))
    ada.driver.get("about:blank")
    ada.driver.get(link)
    ada.until(lambda: ada.text("[data-testid=detail] .text") == title)
    assert ada.all(".row.here")[0].get_attribute("data-uid") == uid
    assert ada.named("search").get_attribute("value") == "label:safe"
    total = server.get("errors", version="original", show="all", q="label:safe")["total"]
    assert ada.named("hits").text == f"{total} examples found"
    assert ada.all("[data-testid=show-all]")[0].get_attribute("aria-pressed") == "true"


def test_what_was_not_read_is_grey_and_the_buttons_stay(ada: Person, run: Path) -> None:
    train = Session(run).splits.train
    uid = next(u for u, t in zip(train.uid, train.frame["text"], strict=True) if t.startswith(HOSTILE[0]))
    ada.open(f"?tab=suspects&show=all&uid={uid}")
    ada.says("the model did not read", "[data-testid=words-note]", seconds=60)
    text = train.frame["text"][train.uid.index(uid)]
    grey = "".join(part.get_attribute("textContent") for part in ada.all(".text .muted"))
    assert text.endswith(grey) and grey.split()[-1] in text.split()[-3:]
    inside = "const r = arguments[0].getBoundingClientRect(); return r.top >= 0 && r.bottom <= innerHeight"
    ada.driver.execute_script("document.querySelector('.detail').style.height = '12rem'")
    assert ada.driver.execute_script(inside, ada.all(".detail > .actions")[0])
    assert not ada.faults()


def test_words_and_comments_are_kept(ada: Person, server: Server) -> None:
    ada.open("?tab=suspects")
    ada.press("j")
    ada.click("mark-words")
    ada.says("The next retraining uses the marks", "[data-testid=words-note]")
    ada.click("word")
    ada.click("yes")
    ada.until(lambda: server.get("state")["marks"] == 1)
    # The mark is seen, whether or not the words are coloured by now.
    ada.until(lambda: ada.all("[data-testid=detail] .word.ignore"))
    ada.press("c")
    ada.until(lambda: ada.all("dialog[open] textarea"))[0].send_keys("I am not sure.")
    ada.click("yes")
    ada.says("I am not sure.", "[data-testid=detail]")
    ada.click("tab-retrain")
    ada.says("It also tunes on 1 mark on words", "[data-testid=marks-note]")


def test_a_marked_word_is_tuned_on_and_compared(ada: Person, server: Server) -> None:
    ada.open("?tab=suspects&q=toxic")
    ada.press("j")
    ada.click("mark-words")
    word = ada.until(lambda: [one for one in ada.all("[data-testid=word]") if one.text == "toxic"])[0]
    word.click()
    ada.until(lambda: ada.all("dialog[open] input[value=all]"))[0].click()
    ada.click("yes")
    ada.says("training texts hold this word", "#toast")
    ada.click("tab-retrain")
    ada.click("retrain")
    ada.until(lambda: ada.all("[data-testid=job-compare]"), 300)
    ada.click("job-compare")
    table = ada.until(lambda: ada.text("[data-testid=words-compared]"))
    assert "toxic" in table and "Should not matter" in table
    [row] = server.get("compare", before="original", after="0001")["words"]
    control = ada.all("[data-testid=words-compared] td:last-child .word")
    assert [one.text for one in control] == [row["control"]["word"]] != ["toxic"]
    typed = ada.named("sentence-text")
    typed.send_keys("a toxic comment, thank you")
    ada.click("sentence-ask")
    ada.until(lambda: len(ada.all("[data-testid=sentence-answers] h3")) == 2, 120)
    assert "a toxic comment, thank you" in ada.text("[data-testid=sentence-answers]") and ada.faults() == []
    assert len({ada.text(f"[data-testid=sentence-answers] > div:nth-child({i})") for i in (1, 2)}) == 2


def test_texts_do_nothing_to_the_page(ada: Person, run: Path) -> None:
    parts, met = Session(run).splits.parts, set()
    for name, part in parts.items():
        for uid, text in zip(part.uid, part.frame["text"], strict=True):
            hostile = next((h for h in HOSTILE if text.startswith(h[:20])), None)
            if hostile is None or name not in ("train", "validation"):
                continue
            met.add(hostile)
            ada.open(f"?tab={'suspects' if name == 'train' else 'errors'}&show=all&uid={uid}")
            shown = ada.until(lambda: ada.text("[data-testid=detail] .text"))
            assert ada.driver.execute_script("return window.pwned") is None
            if len(text) > 100_000:
                assert "more characters" in shown and len(shown) < 25_000
            if "\u202e" in text:
                assert "U+202E" in shown and "\u202e" not in shown
            assert ada.driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert met == set(HOSTILE)
    # Nor does what people write: a name cannot be a text of that kind, a comment can.
    ada.open(f"?tab=suspects&show=all&uid={parts['train'].uid[0]}")
    ada.until(lambda: ada.all("[data-testid=reason]") or ada.all("[data-testid=comment]"))
    ada.press("c")
    ada.until(lambda: ada.all("dialog[open] textarea"))[0].send_keys(HOSTILE[0])
    ada.click("yes")
    ada.says("<script>", "[data-testid=detail]")
    ada.open("?tab=history")
    ada.says("<script>")
    assert ada.driver.execute_script("return window.pwned") is None
    assert ada.faults() == []


def test_nothing_leaves_the_machine(ada: Person) -> None:
    ada.asked_for()
    for tab in ("errors", "suspects", "retrain", "compare", "history"):
        ada.open(f"?tab={tab}")
    asked = {url for url in ada.asked_for() if not url.startswith(("data:", "about:"))}
    assert len(asked) > 10
    assert {url for url in asked if not url.startswith(ada.url)} == set()


def test_the_page_outlives_the_server(ada: Person, server: Server) -> None:
    ada.open()
    server.kill()
    ada.says("does not answer", "#toast")
    assert ada.all("[data-testid=row]")


def test_a_wrong_token_is_told_and_the_right_one_lets_in(window: Any, run: Path) -> None:
    with serving(run, "--token", "s3cret") as server:
        window.get(f"{server.url}/?token=guess")
        assert "not the one" in window.page_source
        with pytest.raises(urllib.error.HTTPError, match="401"):
            server.get("state")
        window.get(server.address)
        ada = Person(window, server.url)
        ada.open()
        assert ada.all("[data-testid=row]")
        window.delete_all_cookies()


TABS = ("", "?show=all", "?tab=suspects", "?tab=retrain", "?tab=compare", "?tab=history")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everybody_can_use_it(run: Path, width: int, dark: bool) -> None:
    axe = pytest.importorskip("axe_selenium_python")
    with serving(run) as server, browsing(width, 844, dark=dark) as driver:
        ada = Person(driver, server.url, hinted=False)
        for tab in TABS:
            ada.open(tab)
            if tab in TABS[:3]:
                ada.press("j")
                # Until the example has come, what it replaces stands dimmed, too faint to read.
                ada.until(lambda: ada.all(".split.open [data-testid=detail]:not(.stale)"))
            found = axe.Axe(driver)
            found.inject()
            # The axe of this package is older than the div that HTML 5.2 allows in a dl.
            results = found.run(options=_YOUNGER)
            bad = [v for v in results["violations"] if v["impact"] in ("serious", "critical")]
            assert not bad, [(v["id"], [n["html"][:200] for n in v["nodes"][:3]]) for v in bad]
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width, tab


def test_every_key_works_without_a_mouse(ada: Person) -> None:
    ada.open("?show=all")
    ada.press("?")
    ada.says("accept the suggestion", "dialog")
    ada.press(ESCAPE)
    ada.until(lambda: not ada.all("dialog[open]"))
    ada.press("/")
    assert ada.driver.switch_to.active_element.get_attribute("data-testid") == "search"
    ada.press("lable:red")
    ada.says("did you mean 'label'", ".list .empty")
    assert not ada.all("[data-testid=row]")
    ada.press(BACKSPACE * len("lable:red"))
    ada.press("safe jk")  # typed, not obeyed
    assert "uid=" not in ada.driver.current_url
    ada.press(ESCAPE)
    ada.press("u")
    ada.says("no decision of yours", "#toast")
