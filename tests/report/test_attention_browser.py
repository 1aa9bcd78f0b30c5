"""The view of attention patterns as a person uses it, from disk, in headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.browser import CHROMIUM, DRIVER, LACKING, browsing
from tests.report.test_method_page import HOSTILE, with_patterns
from tracemend.report import write_report

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=LACKING)]
pytest.importorskip("selenium")


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    with browsing() as driver:
        yield driver


def test_a_token_is_asked_and_a_head_is_picked(window: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.ui import Select

    def found(selector: str) -> list[Any]:
        elements: list[Any] = window.find_elements("css selector", selector)
        return elements

    window.get(write_report(with_patterns(tmp_path)).as_uri())
    tokens = found(".token")
    assert [token.get_attribute("textContent") for token in tokens] == [HOSTILE, "b⏎"]
    said = found(".said")[0]
    # Until somebody points at a token, the last one is asked: layer 1, the mean of heads with 100 and 101 of 255.
    assert "0.39" in said.text and "0.61" in said.text

    Select(found("[data-pick=head] , select[data-pick=head]")[0]).select_by_visible_text("1")
    Select(found("select[data-pick=kind]")[0]).select_by_visible_text("what is moved")
    assert "1.00" in found(".said")[0].text
    Select(found("select[data-pick=way]")[0]).select_by_visible_text("who looks at the token")
    ActionChains(window).move_to_element(found(".token")[0]).perform()
    assert "is looked at by" in found(".said")[0].text and "1.00" in found(".said")[0].text

    overview = found(".over canvas")[0]
    size = overview.size
    ActionChains(window).move_to_element_with_offset(
        overview, -size["width"] // 4, -size["height"] // 4
    ).click().perform()
    picked = [Select(found(f"select[data-pick={name}]")[0]).first_selected_option.text for name in ("layer", "head")]
    assert picked == ["0", "0"]
    faults = [entry for entry in window.get_log("browser") if entry["level"] == "SEVERE"]
    assert not faults
