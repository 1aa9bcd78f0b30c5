"""How fast the studio is, and what a reviewer who follows its suggestions gains.

    python -m benchmarks.studio speed                    # 20,000 training and 2,000 validation examples
    python -m benchmarks.studio reviewer runs/demo       # 60 decisions on the demo run, then a retraining

``speed`` makes a run of that size with scores drawn at random and an untuned head on minilm: the times depend on sizes,
not on what is in them. The page is opened in headless Chromium and colours words while the times are taken. Its control
is a run of 200 and 100 examples, which shows how much of a time is the browser's and the server's whatever the size.
``reviewer`` accepts the suggestions from the top of the queue; its control gives as many examples at random the other
label, and is trained alike.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.browser import Person, Server, browsing, serving
from tracemend.data import Labelled, Splits
from tracemend.data.decision import Decision
from tracemend.data.examples import write_examples
from tracemend.data.ledger import Ledger
from tracemend.models import load
from tracemend.runs import write_json, write_parquet
from tracemend.tuning import Tuning
from tracemend.tuning.checkpoints import save_checkpoint
from tracemend.tuning.predictor import Predictor

WORDS = ("the", "of", "and", "to", "in", "is", "you", "that", "it", "he", "was", "for", "on", "are", "as", "with")


def sized_run(folder: Path, train: int, validation: int, *, seed: int = 0, decisions: int = 1_000) -> None:
    """A run of this size as the studio finds it prepared, with a ledger that somebody has worked on."""
    rng = np.random.default_rng(seed)

    def part(n: int, name: str) -> Labelled:
        texts = [f"{' '.join(rng.choice(WORDS, rng.integers(8, 40)))} {name} {i}" for i in range(n)]
        return Labelled.make(texts, rng.choice(["safe", "unsafe"], n), label_names=["safe", "unsafe"])

    splits = Splits(part(train, "train"), part(validation, "validation"), part(validation, "verdict"))
    folder.mkdir(parents=True)
    write_examples(splits, folder)
    about = {"name": "a large run", "labels": list(splits.labels), "positive": "unsafe"}
    write_json(folder / "result.json", {"command": "tune", "status": "complete", "data": about, "model": {}})
    tuning = Tuning(adapter="head", seed=seed)
    classifier = tuning.classifier(load("minilm"), splits.labels)
    save_checkpoint(folder / "adapter-0001", classifier, step=0, lr_sum=0.0, metrics={})
    Predictor(classifier, tuning, "unsafe", 0.5, adapter="adapter-0001").save(folder)
    made = folder / "studio" / "versions" / "original"
    tables = []
    for name, data in splits.parts.items():
        p = rng.random(len(data))
        tables.append(pd.DataFrame({"split": name, "uid": data.uid, "p_0": 1 - p, "p_1": p}))
    write_parquet(made / "predictions.parquet", pd.concat(tables, ignore_index=True))
    write_json(made / "figures.json", {})
    shape = (validation, train)
    matrix = np.lib.format.open_memmap(made / "influence.npy", mode="w+", dtype="<f4", shape=shape)
    for q in range(validation):
        matrix[q] = rng.normal(0, 0.1, train)
    matrix.flush()
    near = rng.integers(0, train, (train, 3))
    table = pd.DataFrame(
        {
            "uid": splits.train.uid,
            "suspicion": rng.random(train),
            "suggestion": np.where(splits.train.frame["label"] == "safe", "unsafe", "safe"),
            "certainty": 1.0,
            "eligible": rng.random(train) < 0.3,
            "label_then": splits.train.frame["label"],
            "near": list(near),
            "near_cosine": list(rng.random((train, 3)).astype(np.float32)),
            "twins": [[] for _ in range(train)],
            "opinion_0": 0.5,
            "opinion_1": 0.5,
        }
    )
    write_parquet(made / "suspects.parquet", table)
    write_json(made / "prepared.json", {})
    with Ledger(folder / "ledger.sqlite") as ledger:
        ledger.add(Decision(uid=u, kind="keep", actor="somebody") for u in splits.train.uid[-decisions:])


def speed(train: int, validation: int, repeats: int) -> dict[str, Any]:
    """Times in milliseconds, medians where there are several, beside those of a small run."""
    sizes = {"found": (train, validation), "control": (200, 100)}
    return {"repeats": repeats, **{name: _speed(*size, repeats) for name, size in sizes.items()}}


def _speed(train: int, validation: int, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        sized_run(run, train, validation, decisions=min(1_000, train // 4))
        views = [_first_view(run) for _ in range(5)]
        with serving(run) as server, browsing() as driver:
            ada = Person(driver, server.url)
            evidence, decided = _evidence(ada, min(repeats, validation // 4)), _decisions(ada, server, repeats)
    return {
        "train": train,
        "validation": validation,
        "first_view_ms": _told([whole for whole, _ in views]),
        "of_which_until_the_server_answers_ms": _told([answers for _, answers in views]),
        "evidence_ms": _told(evidence),
        "decision_ms": _told(decided),
    }


def _first_view(run: Path) -> tuple[float, float]:
    """From the start of the server's process to rows on the page; the browser is open already."""
    with browsing() as driver:
        driver.get("about:blank")
        server = Server(run)
        answers = (time.monotonic() - server.started) * 1000
        try:
            driver.get(server.url)
            Person.until(_bare(driver), lambda: driver.find_elements("css selector", "[data-testid=row]"))
            return (time.monotonic() - server.started) * 1000, answers
        finally:
            server.stop()


def _bare(driver: Any) -> Person:
    person = Person.__new__(Person)
    person.driver = driver
    return person


def _evidence(ada: Person, repeats: int) -> list[float]:
    """From a key to the training examples behind another error on the page, as the page's own clock has it."""
    ada.open()
    return [float(ada.driver.execute_async_script(_EVIDENCE)) for _ in range(repeats)]


def _decisions(ada: Person, server: Server, repeats: int) -> list[float]:
    """From a key to the server's confirmation on the page."""
    ada.open("?tab=suspects")
    ada.press("j")
    ada.until(lambda: ada.all("[data-testid=reason]"))
    found = []
    for _ in range(repeats):
        found.append(float(ada.driver.execute_async_script(_DECISION)))
        time.sleep(0.3)  # the page goes on to the next one
    if server.get("pulse")["reviewed"] < repeats:
        raise SystemExit("fewer decisions are in the ledger than were made")
    return found


# Press a key and wait until what it asks for is drawn; nothing else that is drawn counts.
_PRESS = """
const done = arguments[arguments.length - 1];
const press = (key, watched, there) => {
  const began = performance.now();
  const watcher = new MutationObserver(() => {
    if (!there()) return;
    watcher.disconnect();
    requestAnimationFrame(() => done(performance.now() - began));
  });
  watcher.observe(watched, { childList: true, subtree: true });
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
};
"""
_EVIDENCE = f"""{_PRESS}
const detail = document.querySelector("[data-testid=detail]");
const before = detail.dataset.uid;
press("j", detail, () => detail.dataset.uid !== before && detail.querySelector("[data-testid=card]"));
"""
_DECISION = f"""{_PRESS}
const toast = document.getElementById("toast");
toast.replaceChildren();
press("a", toast, () => toast.textContent.includes("labelled"));
"""


def _told(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {"median": round(statistics.median(times), 1), "p95": round(p95, 1), "n": len(times)}


def reviewer(run: Path, decisions: int, seed: int) -> dict[str, Any]:
    """Accept suggestions from the top, retrain, compare; beside it as many random relabellings."""
    with tempfile.TemporaryDirectory() as folder:
        copies = {name: Path(folder) / name for name in ("suggestions", "random")}
        for copy in copies.values():
            shutil.copytree(run, copy)
        found = {name: _review(copy, decisions, seed, at_random=name == "random") for name, copy in copies.items()}
    return {"decisions": decisions, **found}


def _review(run: Path, decisions: int, seed: int, *, at_random: bool) -> dict[str, Any]:
    with serving(run) as server:
        server.wait()
        rows = server.get("suspects", version="original", show="all" if at_random else "open", limit=200)["rows"]
        if at_random:
            total = server.get("suspects", version="original", show="all", limit=1)["total"]
            whole = [
                row
                for offset in range(0, total, 200)
                for row in server.get("suspects", version="original", show="all", limit=200, offset=offset)["rows"]
            ]
            rows = [whole[i] for i in np.random.default_rng(seed).permutation(len(whole))]
        labels = server.get("state")["labels"]
        began = time.monotonic()
        for row in rows[:decisions]:
            other = next(label for label in labels if label != row["label"])
            act = {"act": "label", "value": other} if at_random else {"act": "accept"}
            server.post(
                "decide", {"actor": "reviewer", "version": "original", "seen": {row["uid"]: row["seen"]}, **act}
            )
        deciding = time.monotonic() - began
        began = time.monotonic()
        server.post("retrain", {"actor": "reviewer", "basis": "people", "version": "original"})
        server.wait()
        retraining = time.monotonic() - began
        versions = {v["name"]: v["figures"] for v in server.get("state")["versions"]}
        compared = server.get("compare", before="original", after="0001")
        right = _right(run, [row["uid"] for row in rows[:decisions]])
    ap = next(c for c in compared["comparisons"] if c["metric"] == "ap")
    part = "test" if "test" in versions["original"] else "verdict"
    return {
        "right_share": right,
        f"{part}_ap_before": round(versions["original"][part]["ap"], 3),
        f"{part}_ap_after": round(versions["0001"][part]["ap"], 3),
        "verdict_ap_change": [round(ap[k], 3) for k in ("difference", "low", "high")],
        "decisions_per_minute": round(decisions / deciding * 60),
        "retrain_seconds": round(retraining, 1),
    }


def _right(run: Path, uids: list[str]) -> float | None:
    """Share of the examples decided on whose given label was in truth wrong."""
    from tracemend.data.examples import read_examples

    train = read_examples(run).train
    if not train.has_truth:
        return None
    wrong = dict(zip(train.uid, train.wrong.tolist(), strict=True))
    return round(float(np.mean([wrong[uid] for uid in uids])), 3)


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    fast = what.add_parser("speed")
    fast.add_argument("--train", type=int, default=20_000)
    fast.add_argument("--validation", type=int, default=2_000)
    fast.add_argument("--repeats", type=int, default=50)
    person = what.add_parser("reviewer")
    person.add_argument("run", type=Path)
    person.add_argument("--decisions", type=int, default=60)
    person.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.what == "speed":
        found = speed(given.train, given.validation, given.repeats)
    else:
        found = reviewer(given.run, given.decisions, given.seed)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
