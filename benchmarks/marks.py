"""What a person's mark on one word does to the next model of the studio, and how long they wait for it.

    python -m benchmarks.marks runs/demo --out benchmarks/results/marks.json

Each word is marked by itself on a copy of the run, and a model is tuned anew as the studio does it. Words that should
not matter are those that carry most of their texts' weight, words that should are those of the head (the words that go
with a label most) that carry least; both are chosen on validation texts and judged on verdict texts, by integrated
gradients, which is not what the penalty is made of. Beside each stands a word as frequent that nobody marked. Last it
is looked whether the model from before is still the same, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.data.words import texts_holding
from tracemend.mend.head_words import local_mutual_information
from tracemend.mend.reliance import word_shares
from tracemend.runs import read_json
from tracemend.studio import Session
from tracemend.studio.prepare import Loaded
from tracemend.studio.retrain import retrain
from tracemend.studio.versions import WORDS, version

# Verdict texts that a word stands in at least, and letters it has: shorter ones are mostly function words.
_TEXTS, _LETTERS = 4, 4


def chosen(loaded: Loaded, words: int) -> dict[bool, list[str]]:
    """Words to mark, by whether they should matter; from 40 words of the head, on validation texts."""
    verdict = [f"{text}\n{reply or ''}" for text, reply in loaded.splits.verdict.pairs]
    head = local_mutual_information(loaded.splits.train)["word"]
    known = [w for w in head if len(w) >= _LETTERS and w.isalpha() and texts_holding(verdict, w) >= _TEXTS][: 4 * words]
    classifier = loaded.classifier(version(loaded.run, "original"))
    found = word_shares(classifier, loaded.splits.validation, known, most=4).dropna().sort_values("share")
    return {False: list(found["word"][::-1][:words]), True: list(found["word"][:words])}


def marked(loaded: Loaded, word: str, *, matters: bool) -> dict[str, Any]:
    """The shares and ranks of one marked word before and after, those of its control, and the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(loaded.run, run)
        before = _digest(version(run, "original").adapter)
        session = Session(run)
        uid = session.splits.train.uid[0]
        session.review.mark_word("Ada", uid, word, matters=matters, scope="all", seen=0)
        began = (time.monotonic(), time.process_time())
        made = retrain(Loaded.of(run), Path(folder) / "job", {"basis": "people", "actor": "Ada", "parent": "original"})
        spent = (time.monotonic() - began[0], time.process_time() - began[1])
        [row] = read_json(made.folder / WORDS)
        kept = _digest(version(run, "original").adapter) == before
    return {**row, "seconds": round(spent[0], 1), "processor": round(spent[1], 1), "model before is kept": kept}


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "parameters.safetensors").read_bytes()).hexdigest()


def summary(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a marked word, with what is left of its share and of that of its control."""
    table = pd.DataFrame(rows)
    control = table["control"].map(lambda one: one or {})
    table["left"] = table["share_after"] / table["share_before"]
    table["control"] = control.map(lambda one: one.get("word"))
    table["control left"] = control.map(
        lambda one: one["share_after"] / one["share_before"] if one.get("share_before") else float("nan")
    )
    names = ["word", "matters", "train", "texts", "share_before", "share_after", "left", "rank_before", "rank_after"]
    return table[[*names, "control", "control left", "seconds", "processor", "model before is kept"]].round(3)


def main() -> None:
    """Print the table, and write the rows where ``--out`` says; what is there already is not done again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--words", type=int, default=3, help="of each kind")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    loaded = Loaded.of(given.run)
    rows = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else []
    done = {(row["word"], row["matters"]) for row in rows}
    words = chosen(loaded, given.words)
    # One word of each kind, then the next: a run that is stopped has both.
    for pair in zip(words[False], words[True], strict=True):
        for word, matters in zip(pair, (False, True), strict=True):
            if (word, matters) in done:
                continue
            rows.append(marked(loaded, word, matters=matters))
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(summary(rows).to_string())


if __name__ == "__main__":
    main()
