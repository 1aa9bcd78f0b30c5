"""The coloured text: escaped, readable, and nothing leaves its box."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from markupsafe import Markup

from tracemend.saliency import STYLE, InputXGradient

NASTY = [
    ("<script>alert(1)</script> & <b title='x'>bold</b>", '"quoted" </div></p>'),
    ("\N{RIGHT-TO-LEFT OVERRIDE}evil \N{LEFT-TO-RIGHT ISOLATE} text", None),
    ("$x$ {{ template }} {0} %s", None),
    ("שלום עולם hello", None),
    ("line one\n\nline two", None),
]


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.paragraphs: list[str] = []
        self.feed(str(html))
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.append(tag)
        if tag == "p":
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "p" in self.open:
            self.paragraphs[-1] += data


@pytest.fixture(scope="module")
def result(make):
    return InputXGradient(checked=1, orders=1).run(make("bert"), NASTY)


@pytest.mark.parametrize("i", range(len(NASTY)))
def test_the_text_comes_back_as_it_was(result, i: int) -> None:
    page = Page(result.html([i]))
    assert set(page.tags) == {"div", "p", "span"}
    assert page.paragraphs[:-1] == [part for part in NASTY[i] if part is not None]
    assert 'dir="auto"' in result.html([i])


def test_a_word_is_coloured_by_its_sign_and_strength(result) -> None:
    html = result.html([0])
    words = result.words(0)
    strongest = words.loc[words["weight"].abs().idxmax()]
    kind = "for" if strongest["weight"] > 0 else "against"
    assert f'class="w {kind}" style="--strength:0.60" title="{strongest["weight"]:+.3g}"' in html
    shown = [float(strength) for strength in re.findall(r"--strength:([0-9.]+)", html)]
    assert max(shown) == 0.6 and len(set(shown)) > 2


def test_a_page_loads_nothing(result) -> None:
    page = Markup("<style>{}</style>{}").format(Markup(STYLE), result.html())
    assert isinstance(result.html(), Markup)
    assert not re.search(r"https?:|url\(|@import|<(script|img|link|iframe)", page)


def test_all_texts_or_some(result) -> None:
    assert result.html().count('<div class="saliency">') == len(NASTY)
    assert result.html([3, 1]).count('<div class="saliency">') == 2
    assert result.figure(4).axes
