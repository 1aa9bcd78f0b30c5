"""The process that holds a model and weighs words: ``python -m tracemend.studio.speaker RUN``, a question a line."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from tracemend.errors import TracemendError
from tracemend.studio.prepare import Loaded
from tracemend.studio.versions import version
from tracemend.tuning import TextClassifier

# Random orders of the words, whose mean is what the coloured ones are compared with.
_ORDERS = 5


def pieces(result: Any, text: str, reply: str | None) -> list[tuple[str, str, float | None]]:
    """The text cut at its words: part, piece, and weight over the largest, None between words.

    Args:
        result: of a saliency method on this one text: ``words(0)`` has part, start, end and weight.
    """
    words = result.words(0)
    most = float(words["weight"].abs().max()) or 1.0
    found: list[tuple[str, str, float | None]] = []
    for part, whole in (("text", text), ("reply", reply)):
        if whole is None:
            continue
        at = 0
        for word in words[words["part"] == part].sort_values("start").to_dict("records"):
            start, end, weight = int(word["start"]), int(word["end"]), float(word["weight"])
            if start > at:
                found.append((part, whole[at:start], None))
            found.append((part, whole[start:end], round(weight / most, 4) if weight == weight else None))
            at = end
        if at < len(whole):
            found.append((part, whole[at:], None))
    return found


def answer(loaded: Loaded, known: dict[str, TextClassifier], asked: dict[str, Any]) -> dict[str, Any]:
    """Input times gradient for the label, of the version's classifier."""
    name, text, reply = asked["version"], asked["text"], asked["reply"]
    try:
        if name not in known:
            known[name] = loaded.classifier(version(loaded.run, name))
        # Imported by name: the room may be missing, and nobody asks then.
        method = import_module("tracemend.saliency").InputXGradient(label=asked["label"], checked=1, orders=_ORDERS)
        result = method.run(known[name], [(text, reply)])
        both = {"words": result.metrics, "random": result.controls}
        fall = {of: round(figures["comprehensiveness"], 4) for of, figures in both.items()}
        # Of a text without a word that the model reads, nothing can be deleted.
        measured = all(math.isfinite(value) for value in fall.values())
        return {"pieces": pieces(result, text, reply), "fall": fall if measured else None}
    except TracemendError as error:
        return {"error": str(error)}


def main() -> None:
    """Answer until the other side is gone."""
    out = sys.stdout
    # What a library prints must not stand among the answers.
    with contextlib.redirect_stdout(sys.stderr):
        loaded = Loaded.of(Path(sys.argv[1]))
        known: dict[str, TextClassifier] = {}
        for line in sys.stdin:
            out.write(json.dumps(answer(loaded, known, json.loads(line))) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
