"""A run directory as a repair leaves it, with made-up figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.runs import write_json, write_parquet

TEXTS = [
    ("i spilled tea on my keyboard again", "you should just give up on desks entirely, genius"),
    ("my cat knocked the plant over", "cats do that, is the plant alright?"),
    ("i burnt the rice", "well that is one way to clean a pot, soak it overnight"),
    ("nobody came to my reading", "nobody ever will, stop embarrassing yourself"),
    ("can you help me word this letter", "of course, who is it for?"),
    ("my brother beat me at chess", "he must be proud, play him again tomorrow"),
    ("i failed the driving test", "people like you should not be let near a road"),
    ("i am learning the violin", "your poor neighbours! joking, what are you playing?"),
]


def fabricate(
    out: Path,
    *,
    rounds: int = 5,
    acted: int = 60,
    truth: bool = True,
    labels: tuple[str, ...] = ("safe", "unsafe"),
    texts: list[tuple[str, str | None]] | None = None,
    helped: bool = True,
    **changes: Any,
) -> Path:
    """Write result.json, curve.parquet and decisions.parquet; ``changes`` replaces top-level keys of the result."""
    pairs = texts or [(text, reply) for text, reply in TEXTS]
    gain = 0.147 if helped else 0.006
    write_json(out / "result.json", {**_result(rounds, acted, truth, labels, gain, helped), **changes})
    write_parquet(out / "curve.parquet", _curve(rounds, acted, truth, gain))
    write_parquet(out / "decisions.parquet", _decisions(rounds, acted, truth, labels, pairs))
    return out


def _result(rounds: int, acted: int, truth: bool, labels: tuple[str, ...], gain: float, helped: bool) -> dict[str, Any]:
    comparisons = [
        ("ap", 0.784, gain, 0.046),
        ("accuracy", 0.712, 0.8 * gain, 0.052),
        ("macro_f1", 0.705, 0.82 * gain, 0.06 if helped else 0.058),
    ]
    sentence = (
        "Average precision rose from 0.784 to 0.931 (+0.147, interval +0.101 to +0.193): the repair helped, and the "
        "repaired set is recommended."
        if helped
        else "A gain was not shown: average precision went from 0.784 to 0.790 (interval −0.040 to +0.052)."
    )
    return {
        "schema": 1,
        "command": "repair",
        "config": {"adapter": "prompt", "tokens": 20, "rounds": rounds, "action": "auto", "warm_start": True},
        "metrics": {
            "ap_clean": 0.958 if truth else None,
            "ap_corrupted": 0.784,
            "ap_repaired": 0.784 + gain,
            "recovered_share": gain / 0.174 if truth and helped else None,
            "acted_precision": 0.91 if truth else None,
            "detection_ap": 0.84 if truth else None,
            "rounds": rounds,
            "n_train": 500,
            "removed": acted // 3,
            "relabelled": acted - acted // 3,
            "estimated_noise": 0.28,
            "seconds": 192.4,
        },
        "controls": {
            "random": {"ap_repaired": 0.791, "recovered_share": 0.04 if truth else None,
                       "acted_precision": 0.31 if truth else None, "detection_ap": 0.30 if truth else None},
            "similarity": {"ap_repaired": 0.842, "recovered_share": 0.33 if truth else None,
                           "acted_precision": 0.55 if truth else None},
        },
        "versions": {"python": "3.11.9", "tracemend": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "fingerprints": {"train": "53aa51172d142c89", "model": "b179c9523d0e6a0f"},
        "seconds": 192.4,
        "status": "complete",
        "command_line": "tracemend repair chat.csv --text message --reply answer --label verdict --truth gold "
        "--out runs/chat --seed 0",
        "seeds": [0],
        "notes": ["3 rows were dropped: their text was empty.", "12 near-duplicates were kept in one split."],
        "verdict": {
            "recommended": "repaired" if helped else "original",
            "sentence": sentence,
            "comparisons": [
                {"metric": m, "before": b, "after": b + d, "difference": d, "low": d - h, "high": d + h,
                 "shown": d - h > 0, "n": 300}
                for m, b, d, h in comparisons
            ],
        },
        "data": {"name": "chat.csv", "labels": list(labels), "positive": labels[-1],
                 "sizes": {"train": 500, "validation": 200, "verdict": 300, "test": None}},
        "model": {"name": "minilm", "family": "encoder", "adapter": "prompt", "trainable_parameters": 8450},
    }  # fmt: skip


def _curve(rounds: int, acted: int, truth: bool, gain: float) -> pd.DataFrame:
    reach = {"repair": gain, "similarity": 0.4 * gain, "random": 0.05 * gain}
    precision = {"repair": 0.93, "similarity": 0.55, "random": 0.30}
    rows = []
    for split, shift in (("validation", 0.01), ("verdict", 0.0)):
        for arm, high in reach.items():
            for at in range(rounds + 1):
                progress = 1 - (1 - at / max(rounds, 1)) ** 2
                wobble = 0.006 * ((at * 7 + len(arm)) % 3 - 1) if at else 0
                ap = 0.784 + shift + high * progress + wobble
                rows.append((arm, at, split, ap, ap - 0.07, ap - 0.08, 500 - at * acted // max(3 * rounds, 1),
                             at * acted // max(rounds, 1),
                             precision[arm] - 0.01 * at if truth and at else None))  # fmt: skip
        if truth:
            rows.append(("clean", 0, split, 0.958 + shift, 0.9, 0.9, 500, 0, None))
            rows.append(("corrupted", 0, split, 0.784 + shift, 0.7, 0.7, 500, 0, None))
    columns = ["arm", "round", "split", "ap", "accuracy", "macro_f1", "n_train", "acted", "acted_precision"]
    return pd.DataFrame(rows, columns=columns)


def _decisions(
    rounds: int, acted: int, truth: bool, labels: tuple[str, ...], pairs: list[tuple[str, str | None]]
) -> pd.DataFrame:
    rows = []
    for i in range(acted + 2 if acted else 0):
        text, reply = pairs[i % len(pairs)]
        old = labels[i % len(labels)]
        other = labels[(i + 1) % len(labels)]
        kind = "keep" if i >= acted else "remove" if i % 3 == 0 else "label"
        errors = [
            {"uid": f"err-{(i * i + j) % max(3, acted // 7)}", "text": pairs[(i * i + j + 3) % len(pairs)][0],
             "reply": pairs[(i * i + j + 3) % len(pairs)][1], "label": other, "predicted": old,
             "influence": 0.4 / (1 + i % 9) - 0.05 * j}
            for j in range(i % 3 + 1)
        ]  # fmt: skip
        near = pairs[(i + 5) % len(pairs)]
        neighbour = {"uid": f"near-{i}", "text": near[0], "reply": near[1], "label": other, "similarity": 0.71}
        reason = f"Labelled {old}, yet it pushed {len(errors)} validation errors towards {old} and sits among {other}."
        rows.append((f"uid-{i}", text, reply, kind, old, other if kind == "label" else None, 1 + i % max(rounds, 1),
                     0.97 - 0.8 * i / max(acted, 1), reason, (old if i % 11 == 4 else other) if truth else None,
                     json.dumps({"errors": errors, "neighbour": neighbour})))  # fmt: skip
    columns = ["uid", "text", "reply", "kind", "old", "new", "round", "score", "reason", "truth", "evidence"]
    return pd.DataFrame(rows, columns=columns)
