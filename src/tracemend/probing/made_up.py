"""A made-up treebank for the contract test and for trying things out."""

from __future__ import annotations

import numpy as np

from tracemend.data import Sentence, Treebank


def tiny_treebank() -> Treebank:
    """Sentences of a made-up grammar with trees, for tests: 12 documents."""
    rng = np.random.default_rng(0)
    words = {"DET": ["the", "a", "this", "my"], "NOUN": ["movie", "film", "people", "reply"],
             "VERB": ["love", "hate", "stop", "go"], "ADJ": ["good", "bad", "happy", "sad"]}  # fmt: skip
    frames = [
        (
            ("DET", "NOUN", "VERB", "DET", "ADJ", "NOUN"),
            (1, 2, -1, 5, 5, 2),
            ("det", "nsubj", "root", "det", "amod", "obj"),
        ),
        (("DET", "ADJ", "NOUN", "VERB"), (2, 2, 3, -1), ("det", "amod", "nsubj", "root")),
    ]  # fmt: skip
    made = []
    for i in range(72):
        tags, heads, relations = frames[i % 2]
        made.append(
            Sentence(
                words=tuple(str(rng.choice(words[tag])) for tag in tags),
                tags={"upos": tags, "xpos": tags, "deprel": relations},
                heads=heads,
                id=f"s{i}",
                document=f"d{i // 6}",
            )
        )
    return Treebank(sentences=tuple(made), name="made-up treebank")
