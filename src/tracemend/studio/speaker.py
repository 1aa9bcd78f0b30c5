"""The process that holds a model and weighs words: ``python -m tracemend.studio.speaker RUN``, a question a line."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tracemend.errors import TraceError, TracemendError
from tracemend.models.moved import looked_and_moved
from tracemend.report.attention_view import patterns
from tracemend.studio.prepare import Loaded
from tracemend.studio.units import COMPARED, Usual, offered, unit_view
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


# Bytes of patterns that a page is sent of one text and kind.
_MOST = 24_000_000


def attention(classifier: TextClassifier, text: str, reply: str | None) -> dict[str, Any]:
    """Every head's pattern on the text, and what is moved, for the view of the report.

    Raises:
        TraceError: the text is too long for a page.
    """
    model = classifier.language_model
    (ids,), _ = classifier.encode([(text, reply)])
    looked, moved = looked_and_moved(classifier.network, lambda: classifier.logits(classifier.batch([ids])))
    if looked.numel() > _MOST:
        raise TraceError(
            f"{looked.shape[2]} tokens in {looked.shape[0]} layers of {looked.shape[1]} heads are too many to be shown "
            "in a page; tracemend circuits attention --length cuts texts."
        )
    virtual = looked.shape[2] - len(ids)
    # As they are read: a token of several may be half a character.
    tokens = [f"[{i + 1}]" for i in range(virtual)] + [model.tokenizer.decode([token]) for token in ids]
    rows = [
        {"text": 0, "layer": layer, "head": head, **{
            kind: (255 * of[layer, head]).round().to(torch.uint8).cpu().numpy().tobytes()
            for kind, of in (("attention", looked), ("moved", moved))
        }}
        for layer in range(looked.shape[0])
        for head in range(looked.shape[1])
    ]  # fmt: skip
    said = pd.DataFrame({"text": 0, "position": range(len(tokens)), "token": tokens})
    return patterns(pd.DataFrame(rows), said)


def unit(
    loaded: Loaded, known: dict[tuple[str, str], Usual], classifier: TextClassifier, asked: dict[str, Any]
) -> dict[str, Any]:
    """What a unit of the version's classifier does on a text, beside training texts at random."""
    names = offered(classifier)
    # The neurons of the last block, where nothing was chosen.
    site = asked["site"] or next(name for name in reversed(names) if "mlp" in name)
    key = (asked["version"], site)
    if key not in known:
        train = loaded.splits.train
        drawn = np.random.default_rng(0).permutation(len(train))[:COMPARED]
        known[key] = Usual.of(classifier, train.take(drawn).pairs, site)
    return unit_view(classifier, known[key], (asked["text"], asked["reply"]), site, asked["unit"]) | {"sites": names}


def answer(
    loaded: Loaded, known: dict[str, TextClassifier], usual: dict[tuple[str, str], Usual], asked: dict[str, Any]
) -> dict[str, Any]:
    """Of the version's classifier: its answer, input times gradient for a label, who looks where, what a unit does."""
    name, text, reply = asked["version"], asked["text"], asked["reply"]
    try:
        if name not in known:
            known[name] = loaded.classifier(version(loaded.run, name))
        if asked["about"] == "answer":
            (p,) = known[name].probabilities([(text, reply)])
            return {"probabilities": dict(zip(known[name].labels, p.round(4).tolist(), strict=True))}
        if asked["about"] == "attention":
            return attention(known[name], text, reply)
        if asked["about"] == "unit":
            return unit(loaded, usual, known[name], asked)
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
    """Say when the model is loaded, then answer until the other side is gone."""
    out = sys.stdout
    # What a library prints must not stand among the answers.
    with contextlib.redirect_stdout(sys.stderr):
        loaded = Loaded.of(Path(sys.argv[1]))
        out.write("ready\n")
        out.flush()
        known: dict[str, TextClassifier] = {}
        usual: dict[tuple[str, str], Usual] = {}
        for line in sys.stdin:
            out.write(json.dumps(answer(loaded, known, usual, json.loads(line))) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
