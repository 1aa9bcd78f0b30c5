"""Figures for ``benchmarks.circuits``: families of units, bands, and the letter task."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.circuits_neurons import Line, plain_texts
from tracemend.circuits import Attention, Families, Logits, Patch
from tracemend.circuits.banding import WeightBands, position_bands
from tracemend.circuits.edit import next_logits
from tracemend.circuits.families import other_gender
from tracemend.circuits.tokens import token_of
from tracemend.data import reference
from tracemend.data.choices import letter_choices
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel, load

SEEDS = (0, 1, 2)


def families(model: LanguageModel) -> list[Line]:
    """Neurons of block 15: 400 film reviews in the other case, and web sentences with the other gender."""
    reviews = reference("sst2").frame["text"].tolist()
    spoken = [text for text in plain_texts(sentences=1) if other_gender(text) != text]
    lines: list[Line] = []
    for transform, texts in (("case", reviews), ("gender", spoken)):
        made = Texts.make([{"text": text} for text in texts if len(text.split()) > 3])
        found = Families(transform=transform, pairs=400).run(model, made)
        shuffled, fresh = found.controls["shuffled pairs"], found.controls["untrained"]
        lines.append((f"{transform}: pairs", None, found.facts["pairs"], None))
        lines += [
            (f"{transform}: {name}", None, value, f"shuffled {shuffled[name]:.3f}, untrained {fresh[name]:.3f}")
            for name, value in found.metrics.items()
        ]
    return lines


def banding(model: LanguageModel) -> list[Line]:
    """Positions of minilm, and the last convolution of a small network with either head, three seeds."""
    lag, shuffled = position_bands(load("minilm"))
    lines: list[Line] = [("minilm: cosine of neighbouring positions", 0.851, lag, f"in random order {shuffled:.3f}")]
    for head in ("pooled", "dense"):
        found = [WeightBands.fit(head, seed=seed) for seed in SEEDS]
        rows, columns = ([getattr(each, name) for each in found] for name in ("rows", "columns"))
        right = [each.accuracy for each in found]
        expected = ">> dense" if head == "pooled" else None
        lines.append((f"{head}: variance due to the row", expected, _range(rows), f"column {_range(columns)}"))
        lines.append((f"{head}: accuracy", None, _range(right), "1/16"))
    return lines


def _range(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def letters(model: LanguageModel) -> list[Line]:
    """64 questions with four cities: which letter does the model prefer, and what writes it?"""
    pairs = letter_choices(64)
    rows = pairs.frame.to_dict("records")
    logits = torch.stack([next_logits(model, [row["clean"]])[0] for row in rows])
    four = [token_of(model, rows[0]["clean"], letter) for letter in "ABCD"]
    said = logits[:, four].argmax(-1).tolist()
    right = float(np.mean(["ABCD"[at] == row["answer"] for at, row in zip(said, rows, strict=True)]))
    lines: list[Line] = [
        ("right letter is the best of four", None, right, "chance 0.25"),
        ("letters preferred, A B C D", None, " ".join(str(said.count(at)) for at in range(4)), "16 each"),
        ("probability of all four together", None, float(logits.softmax(-1)[:, four].sum(-1).mean()), None),
    ]
    few = pairs.head(8)
    found = Logits().run(model, few.contrasts)
    lines.append(("logit of the right letter less the other", None, found.metrics["logit_difference"],
                  found.controls["logit_difference"]))  # fmt: skip
    lines.append(("right letter preferred to the other", 0.5, found.metrics["answer_preferred"], None))
    seen = Attention().run(model, Texts.make([{"text": row["clean"]} for row in rows[:4]]))
    lines += [(f"attention: {name}", None, value, None) for name, value in seen.metrics.items()]
    try:
        patched = Patch(parts=("stream",)).run(model, pairs.head(4))
        lines.append(("patch: gap, logits", None, patched.metrics["clean"] - patched.metrics["corrupted"], None))
    except CircuitError as error:
        lines.append(("patch refuses", None, str(error), None))
    return lines
