from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.report.fabricate import fabricate
from tracemend.errors import RunError
from tracemend.report import write_report
from tracemend.report.environment import halves
from tracemend.runs import write_json, write_parquet

VOID = {"meta", "br", "img", "input", "hr", "link"}


class Page(HTMLParser):
    """Tags, and whether every one that was opened was closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(html)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.words += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", self.words)


def report(out: Path, **options: Any) -> tuple[str, Page]:
    html = write_report(fabricate(out, **options)).read_text(encoding="utf-8")
    return html, Page(html)


def test_order_verdict_figures_curve_precision_decisions_facts(tmp_path: Path) -> None:
    html, page = report(tmp_path)
    headings = [attrs["id"] for tag, attrs in page.tags if tag == "h2"]
    assert headings == ["verdict", "figures", "rounds", "precision", "decisions", "again"]
    assert page.text.index("Use the repaired set") < page.text.index("Key figures")
    assert html.index('class="curve"') > html.index('id="rounds"')


def test_nothing_is_loaded_and_no_script_runs(tmp_path: Path) -> None:
    html, page = report(tmp_path)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe", "object")]
    assert not re.search(r"https?://|url\(|@import|@font-face", html)
    policies = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


HOSTILE = "<script>alert(1)</script></style><img src=x onerror=alert(2)>\"'&amp;"


def test_everything_from_the_run_is_escaped(tmp_path: Path) -> None:
    fabricate(tmp_path, labels=(HOSTILE, "b" + HOSTILE), texts=[(HOSTILE, HOSTILE)])
    result = json.loads((tmp_path / "result.json").read_text())
    for key in ("command_line", "status"):
        result[key] = HOSTILE
    result["notes"], result["seeds"] = [HOSTILE], [HOSTILE]
    result["config"] = result["versions"] = result["fingerprints"] = {HOSTILE: HOSTILE}
    result["verdict"]["sentence"] = result["verdict"]["comparisons"][0]["metric"] = HOSTILE
    result["data"]["name"] = result["model"]["name"] = HOSTILE
    write_json(tmp_path / "result.json", result)
    curve = pd.read_parquet(tmp_path / "curve.parquet").assign(split=HOSTILE)
    write_parquet(tmp_path / "curve.parquet", curve)
    decisions = pd.read_parquet(tmp_path / "decisions.parquet").assign(reason=HOSTILE, uid=HOSTILE)
    write_parquet(tmp_path / "decisions.parquet", decisions)
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert [tag for tag, _ in page.tags].count("style") == 1
    assert page.words.count(HOSTILE) > 100


def test_not_shown_is_said_in_words_and_the_original_recommended(tmp_path: Path) -> None:
    _, page = report(tmp_path, helped=False)
    assert "Keep the original set" in page.text and "A gain was not shown" in page.text
    assert page.text.count(" not shown ") == 3


def test_controls_stand_beside_the_figures(tmp_path: Path) -> None:
    _, page = report(tmp_path)
    cards = page.text[page.text.index("Key figures") : page.text.index("Round by round")]
    squeezed = re.sub(r"\s", "", cards)
    for control in ("similarity33%", "random4%", "random31%", "chance0.300", "similarity0.842", "cleanlabels0.958"):
        assert control in squeezed


def test_without_truth_nothing_that_needs_it_is_claimed(tmp_path: Path) -> None:
    _, page = report(tmp_path, truth=False)
    assert "recovered" not in page.text and "in truth wrong" not in page.text
    assert "label was" not in page.text
    assert [a["id"] for t, a in page.tags if t == "h2" and a["id"] == "precision"] == []


def test_a_share_within_noise_is_not_claimed(tmp_path: Path) -> None:
    _, page = report(tmp_path, helped=False)
    assert "Loss recovered" in page.text and "not claimed" in page.text


def test_nothing_acted_on(tmp_path: Path) -> None:
    _, page = report(tmp_path, acted=0)
    assert "Nothing was changed" in page.text


@pytest.mark.parametrize("rounds", [0, 1, 12])
def test_few_and_many_rounds(tmp_path: Path, rounds: int) -> None:
    _, page = report(tmp_path, rounds=rounds)
    assert [t for t, _ in page.tags].count("svg") == 5  # two curves, three intervals


def test_three_labels_right_to_left_emoji_and_long_texts(tmp_path: Path) -> None:
    texts = [("مرحبا كيف حالك", "شكرا 🙂"), ("👩‍👩‍👧‍👦" * 200, None), ("word " * 2000, ""), ("x" * 5000, "ok")]
    html, page = report(tmp_path, labels=("ok", "rude", "threat"), texts=texts)
    assert "مرحبا كيف حالك" in html and 'dir="auto"' in html
    assert any(t == "details" and a.get("class") == "long" for t, a in page.tags)
    runs = sorted({len(run) for run in re.findall("x{100,}", html)})
    assert runs == [320, 4680]


def test_after_twenty_decisions_the_rest_is_folded(tmp_path: Path) -> None:
    html, _ = report(tmp_path, acted=200)
    folds, is_open = 0, []
    for mark in re.findall(r'<details|</details>|<article class="decision', html):
        folds += {"<details": 1, "</details>": -1}.get(mark, 0)
        is_open += [folds == 0] if mark.startswith("<article") else []
    assert len(is_open) == 202
    assert 20 <= sum(is_open) <= 25 and all(is_open[:5])


def test_more_decisions_than_the_page_lists_are_counted(tmp_path: Path) -> None:
    html, page = report(tmp_path, acted=1300)
    assert "A further 300 decisions stand in decisions.parquet" in page.text
    assert len(html) < 4_000_000


def test_every_result_figure_may_be_null(tmp_path: Path) -> None:
    absent = ("verdict", "data", "model", "seeds", "notes", "config", "versions", "fingerprints", "command_line")
    _, page = report(tmp_path, truth=False, metrics={}, controls={}, **dict.fromkeys(absent))
    assert "No verdict" in page.text and "not known" in page.text
    assert "None" not in page.text and "nan" not in page.text.lower().split()


def test_an_interrupted_run_says_so(tmp_path: Path) -> None:
    fabricate(tmp_path, status="interrupted", verdict=None)
    (tmp_path / "decisions.parquet").unlink()
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "This run was interrupted before it was complete" in page.text


def test_damaged_evidence_leaves_the_decision(tmp_path: Path) -> None:
    fabricate(tmp_path, acted=4)
    decisions = pd.read_parquet(tmp_path / "decisions.parquet")
    decisions["evidence"] = ["{broken", None, "{}", '{"errors": null, "neighbour": {"text": "near"}}', "[]", "3"]
    write_parquet(tmp_path / "decisions.parquet", decisions)
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "No validation error was recorded" in page.text


def test_nested_configuration_and_named_seeds_are_spelled_out(tmp_path: Path) -> None:
    config = {"tuning": {"adapter": "lora", "rank": 8}, "controls": ["random", "similarity"]}
    _, page = report(tmp_path, config=config, seeds={"tuning": 7})
    for words in ("tuning.adapterlora", "tuning.rank8", "controlsrandom, similarity", "seed of tuning7"):
        assert words in page.text


def test_a_lone_surrogate_does_not_stop_the_page(tmp_path: Path) -> None:
    fabricate(tmp_path, acted=3)
    decisions = pd.read_parquet(tmp_path / "decisions.parquet")
    decisions["evidence"] = '{"errors": [{"uid": "a", "text": "broken \\ud83d emoji"}]}'
    write_parquet(tmp_path / "decisions.parquet", decisions)
    assert "broken ? emoji" in write_report(tmp_path).read_text(encoding="utf-8")


def test_same_run_same_page(tmp_path: Path) -> None:
    fabricate(tmp_path)
    assert write_report(tmp_path).read_bytes() == write_report(tmp_path).read_bytes()


def test_other_directories_are_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="a run directory of tracemend"):
        write_report(tmp_path / "absent")
    fabricate(tmp_path, command="tune")
    with pytest.raises(RunError, match="run of 'tune', which has no report; repair and demo have one"):
        write_report(tmp_path)
    fabricate(tmp_path)
    (tmp_path / "curve.parquet").unlink()
    with pytest.raises(RunError, match=r"curve\.parquet does not exist although the run is complete"):
        write_report(tmp_path)
    (tmp_path / "curve.parquet").write_bytes(b"not parquet")
    with pytest.raises(RunError, match=r"curve\.parquet is damaged"):
        write_report(tmp_path)
    write_parquet(tmp_path / "curve.parquet", pd.DataFrame({"arm": ["repair"]}))
    with pytest.raises(RunError, match="lacks the columns round, split"):
        write_report(tmp_path)


def test_a_text_is_cut_between_words_and_never_inside_an_emoji() -> None:
    text = "word " * 200
    shown, folded = halves(text)
    assert shown + folded == text and shown.endswith("word") and len(shown) <= 320
    family = "👩‍👩‍👧‍👦" * 100
    shown, folded = halves(family)
    assert shown + folded == family and not folded.startswith("\N{ZERO WIDTH JOINER}")
    assert len(shown) % 7 == 0
    assert halves("short") == ("short", "")
