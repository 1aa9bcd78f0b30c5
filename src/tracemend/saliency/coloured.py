"""A text with its words coloured by weight, as HTML that can stand in any page."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from markupsafe import Markup

# Of a page's own style sheet the colours may come (--saliency-for, --saliency-against: red, green, blue).
STYLE = """
.saliency { --for: var(--saliency-for, 31, 122, 109); --against: var(--saliency-against, 190, 74, 40); margin: 0 0 1em; }
.saliency p { margin: 0 0 .3em; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; line-height: 1.9; }
.saliency .reply { margin-inline-start: 1.2em; }
.saliency .about { font-size: .85em; opacity: .8; line-height: 1.4; }
.saliency .w { border-radius: .25em; padding: .1em .05em; }
.saliency .for { background: rgba(var(--for), var(--strength)); }
.saliency .against { background: rgba(var(--against), var(--strength)); text-decoration: underline dotted; text-underline-offset: .25em; }
.saliency .unread { opacity: .55; text-decoration: line-through; }
@media (prefers-color-scheme: dark) {
  .saliency { --for: var(--saliency-for, 40, 140, 125); --against: var(--saliency-against, 205, 95, 65); }
}
@media print { .saliency .w { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""  # noqa: E501
# The darkest background that both dark and light text can be read on.
_DARKEST = 0.6
# Fainter than this no colour is seen.
_FAINTEST = 0.02


def coloured(example: pd.Series[Any], words: pd.DataFrame) -> Markup:
    """One text as a ``div`` of class ``saliency``; a page that shows it carries :data:`STYLE` once.

    The strength of the colour is the weight over the largest of the text. Words for the label are coloured, words
    against it are coloured otherwise and underlined, words that the model does not read are struck through. The weight
    itself is each word's title. Everything from the text is escaped, and its direction cannot leave the ``div``.

    Args:
        example: a row of :attr:`SaliencyResult.examples`.
        words: its rows of :attr:`SaliencyResult.rows`.

    Example:
        >>> result = InputXGradient().run(classifier, [("what an awful film", None)])
        >>> page = Markup("<style>{}</style>{}").format(Markup(STYLE), result.html())
    """
    largest = float(words["weight"].abs().max())
    paragraphs = []
    for part in ("text", "reply"):
        whole = example[part]
        if not isinstance(whole, str):
            continue
        own = words[words["part"] == part].sort_values("start")
        paragraphs.append(
            Markup('<p class="{}" dir="auto">{}</p>').format(part, _marked(whole, own.to_dict("records"), largest))
        )
    about = Markup('<p class="about">{}{}</p>').format(
        f"for {example['label']}, probability {example['probability']:.2f}",
        "; the text was cut, what is struck through was not read" if example["cut"] else "",
    )
    return Markup('<div class="saliency">{}{}</div>').format(Markup("").join(paragraphs), about)


def _marked(text: str, words: list[dict[Any, Any]], largest: float) -> Markup:
    made, at = [], 0
    for word in words:
        made.append(Markup.escape(text[at : word["start"]]))
        made.append(word_span(text[word["start"] : word["end"]], float(word["weight"]), largest))
        at = word["end"]
    made.append(Markup.escape(text[at:]))
    return Markup("").join(made)


def word_span(string: str, weight: float, largest: float) -> Markup:
    """One word as a ``span`` of a ``div`` of class ``saliency``: coloured by its weight over the largest, and escaped.

    Args:
        string: the word as it stands in the text.
        weight: above zero for, below zero against; NaN where the model does not read the word.
        largest: the weight of full colour.
    """
    if math.isnan(weight):
        return Markup('<span class="w unread" title="not read by the model">{}</span>').format(string)
    strength = abs(weight) / largest if largest > 0 else 0.0
    if strength < _FAINTEST:
        return Markup('<span class="w" title="{}">{}</span>').format(f"{weight:+.3g}", string)
    return Markup('<span class="w {}" style="--strength:{}" title="{}">{}</span>').format(
        "for" if weight > 0 else "against", f"{_DARKEST * strength:.2f}", f"{weight:+.3g}", string
    )
