from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from tests.report.test_page import Page
from tracemend.errors import RunError
from tracemend.methods import MethodResult
from tracemend.report import write_report
from tracemend.report.attention_view import embedded, patterns
from tracemend.report.numbers import significant
from tracemend.runs import RunDirectory

HOSTILE = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'


def kept(out: Path, **facts: object) -> Path:
    run = RunDirectory(out, command="probing.made-up", config={"method": "probing.made-up", "seed": 3}, fingerprints={})
    result = MethodResult(
        metrics={"accuracy": 0.91234, "bits": 123456.7},
        controls={"random weights": {"accuracy": 0.5}, "shuffled": {"bits": 2.0}},
        config={"method": "probing.made-up", "seed": 3},
        rows=pd.DataFrame({"text": [f"row {i} {HOSTILE}" for i in range(230)], "value": [0.5] * 230}),
        findings=[f"It is found. {HOSTILE}"],
        facts={"texts": 7},
    )
    result.save(out)
    (out / "figure.svg").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    more = {"summary": "What it does.", "command_line": "tracemend probe made-up", "model": {"name": "tiny"}, **facts}
    run.finish(metrics=result.metrics, controls=result.controls, seconds=2, **more)
    return out


def with_patterns(out: Path) -> Path:
    kept(out)
    maps = pd.DataFrame(
        [{"text": 0, "layer": layer, "head": head, "attention": bytes([255, 0, 100 + head, 155 - head]),
          "moved": bytes([255, 0, layer, 255 - layer])} for layer in range(2) for head in range(2)]
    )  # fmt: skip
    maps.to_parquet(out / "maps.parquet")
    tokens = pd.DataFrame({"text": [0, 0], "position": [0, 1], "token": [HOSTILE, "b\n"]})
    tokens.to_parquet(out / "tokens.parquet")
    return out


def figures(html: str) -> list[list[str]]:
    """The cells of the table of figures, row by row."""
    table = re.findall(r'<table class="numbers figures">(.*?)</table>', html, flags=re.DOTALL)[0]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)]
    return [[re.sub("<[^>]*>", "", cell) for cell in row] for row in cells]


def test_every_figure_stands_beside_each_control(tmp_path: Path) -> None:
    html = write_report(kept(tmp_path)).read_text(encoding="utf-8")
    page = Page(html)
    headings = [attrs["id"] for tag, attrs in page.tags if tag == "h2"]
    assert headings == ["found", "figures", "figure", "rows", "again"]
    assert "Made up of tiny" in page.text and "What it does." in page.text
    assert figures(html) == [
        ["Figure", "Found", "random weights", "shuffled"],
        ["accuracy", "0.9123", "0.5", ""],
        ["bits", "123\N{NARROW NO-BREAK SPACE}457", "", "2"],
    ]
    assert "185 more rows" in page.text and "A further 30 rows" in page.text
    assert (
        "tracemend probe made-up" in page.text
        and "<dt>seed</dt><dd>3</dd>" in html
        and "<dt>texts</dt><dd>7</dd>" in html
    )


def test_pages_beside_it_are_linked_and_long_facts_left_out(tmp_path: Path) -> None:
    kept(tmp_path)
    facts = json.loads((tmp_path / "method.json").read_text(encoding="utf-8"))
    facts["facts"]["coloured"] = ["word"] * 500
    (tmp_path / "method.json").write_text(json.dumps(facts), encoding="utf-8")
    assert "units.html" not in write_report(tmp_path).read_text(encoding="utf-8")
    (tmp_path / "units.html").write_text("<p>", encoding="utf-8")
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert '<a href="units.html">' in html and "word, word" not in html


def test_a_unit_stands_beside_the_training_examples_that_drive_it(tmp_path: Path) -> None:
    kept(tmp_path)
    assert 'id="driving"' not in write_report(tmp_path).read_text(encoding="utf-8")
    facts = json.loads((tmp_path / "method.json").read_text(encoding="utf-8"))
    text = {"uid": "0a1b-0", "text": f"you are kind {HOSTILE}", "label": "safe", "activation": 3.50541}
    facts["facts"]["driving"] = [{"unit": 1401, "texts": [text]}]
    (tmp_path / "method.json").write_text(json.dumps(facts), encoding="utf-8")
    html = write_report(tmp_path).read_text(encoding="utf-8")
    section = html[html.index('id="driving"') : html.index('id="rows"')]
    for said in ("Unit 1401", "you are kind &lt;/script&gt;", "safe", "3.505", "0a1b-0"):
        assert said in section
    assert "1401" not in html[html.index('id="again"') :]


def test_one_control_is_a_column_too(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path, command="x", config={}, fingerprints={})
    MethodResult(metrics={"a": 1.0}, controls={"a": 0.25}).save(tmp_path)
    run.finish(metrics={"a": 1.0}, controls={"a": 0.25}, seconds=1)
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert figures(html) == [["Figure", "Found", "control"], ["a", "1", "0.25"]]


def test_nothing_of_the_data_becomes_markup_or_runs(tmp_path: Path) -> None:
    html = write_report(with_patterns(tmp_path)).read_text(encoding="utf-8")
    page = Page(html)
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "patterns"}, {"type": "module"}]
    assert not any(tag == "img" and attrs.get("onerror") for tag, attrs in page.tags)
    data = json.loads(re.findall(r'id="patterns">(.*?)</script>', html)[0])
    assert data["texts"][0]["tokens"] == [HOSTILE, "b⏎"]


def test_the_policy_lets_the_view_s_script_run_and_no_other(tmp_path: Path) -> None:
    html = write_report(with_patterns(tmp_path)).read_text(encoding="utf-8")
    script = re.findall(r'<script type="module">(.*?)</script>', html, flags=re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[0].replace("&#39;", "'")
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    assert "http" not in re.sub(r'http-equiv|xmlns="[^"]*"', "", html)


def test_a_page_without_patterns_runs_nothing(tmp_path: Path) -> None:
    html = write_report(kept(tmp_path)).read_text(encoding="utf-8")
    assert "<script" not in html and "script-src" not in html


def test_patterns_are_in_the_order_that_the_script_reads(tmp_path: Path) -> None:
    with_patterns(tmp_path)
    maps, tokens = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("maps", "tokens"))
    found = patterns(maps.sample(frac=1, random_state=0), tokens)
    flat = base64.b64decode(found["texts"][0]["attention"])
    assert (found["layers"], found["heads"]) == (2, 2)
    assert [flat[4 * i + 2] for i in range(4)] == [100, 101, 100, 101]


def test_json_cannot_end_its_element() -> None:
    said = embedded({"a": "</script><!--&"})
    assert not set("<>&") & set(said) and json.loads(said) == {"a": "</script><!--&"}


@pytest.mark.parametrize("name", ["rows.parquet", "maps.parquet"])
def test_a_damaged_table_is_named(tmp_path: Path, name: str) -> None:
    with_patterns(tmp_path)
    (tmp_path / name).write_bytes(b"PAR1 no")
    with pytest.raises(RunError, match=name.partition(".")[0]):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.52591, "0.5259"), (-1.5, "−1.5"), (123456, "123 456"), (1.23e-7, "1.23e−07"), (float("nan"), ""), (0, "0")],
)
def test_significant(value: float, words: str) -> None:
    assert significant(value).replace("\N{NARROW NO-BREAK SPACE}", " ") == words
