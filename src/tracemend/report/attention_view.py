"""Attention patterns as a view of our own: hover a token, pick layer and head. One page, no request to anywhere."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from tracemend.report.method_run import table_of

_START = """
attentionView(document.getElementById("attention"), JSON.parse(document.getElementById("patterns").textContent));
"""


@dataclass(frozen=True)
class View:
    """What the page holds of a run's patterns.

    Attributes:
        data: JSON, with nothing in it that could end its element.
        script: draws the view; its hash is what the page's policy lets run.
    """

    data: Markup
    script: Markup


def attention_view(run: Path) -> View | None:
    """The patterns that ``circuits.attention`` kept in a run; None where there are none."""
    if not (run / "maps.parquet").is_file() or not (run / "tokens.parquet").is_file():
        return None
    maps, tokens = table_of(run, "maps"), table_of(run, "tokens")
    if maps.empty or not {"attention", "moved"} <= set(maps.columns):
        return None
    return View(embedded(patterns(maps, tokens)), Markup(script() + _START))


def patterns(maps: pd.DataFrame, tokens: pd.DataFrame) -> dict[str, Any]:
    """What the view draws: tokens, and by kind all heads' patterns one after another, a byte a share, as base64.

    Args:
        maps: columns ``text``, ``layer``, ``head``, and ``attention`` and ``moved`` as bytes [query x key].
        tokens: columns ``text``, ``position``, ``token``.
    """
    ordered = maps.sort_values(["text", "layer", "head"])
    texts = []
    for text, rows in ordered.groupby("text"):
        said = tokens[tokens["text"] == text].sort_values("position")["token"].tolist()
        kinds = {kind: base64.b64encode(b"".join(rows[kind])).decode() for kind in ("attention", "moved")}
        texts.append({"tokens": [_readable(token) for token in said], **kinds})
    return {
        "layers": int(ordered["layer"].max()) + 1,
        "heads": int(ordered["head"].max()) + 1,
        "texts": texts,
    }


def embedded(data: object) -> Markup:
    """JSON for an element of a page: what could end the element, or begin another, is written as an escape."""
    said = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(said)


@cache
def script() -> str:
    """The view's module: a function ``attentionView(root, data)``, the same in the report and in the studio."""
    return _file("attention.js")


@cache
def style() -> Markup:
    """The view's style sheet; its colours are the page's."""
    return Markup(_file("attention.css"))


def _file(name: str) -> str:
    return files("tracemend.report").joinpath("view", name).read_text(encoding="utf-8")


def _readable(token: str) -> str:
    return token.replace("\n", "⏎").replace("\t", "⇥")
