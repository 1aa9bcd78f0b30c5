"""A finished repair of a tiny model, prepared once; every test gets a copy of its own."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from tracemend.runs import read_json
from tracemend.studio import Session

WORDS = {
    "safe": ["love", "great", "nice", "happy", "thanks", "please"],
    "unsafe": ["hate", "awful", "terrible", "bad", "sad", "toxic"],
}
# What a text may do to a page: act, turn the line around, be endless, be a formula.
HOSTILE = [
    "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>",
    "plain \u202etxet denrut\u202c and \u200bunseen",
    "long " + "x" * 100_000,
    "=HYPERLINK(\"https://example.invalid\") & 'quotes' {{7*7}} ${7*7}",
]


def frame(n: int = 140, *, seed: int = 0, flipped: float = 0.25) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        truth = ("safe", "unsafe")[i % 2]
        text = f"{' '.join(rng.choice(WORDS[truth], 3))} {rng.integers(10**9)} {i}"
        # Several of each, so that no split puts all of them where nobody looks.
        if i % 35 < len(HOSTILE):
            text = f"{HOSTILE[i % 35]} {text}"
        label = {"safe": "unsafe", "unsafe": "safe"}[truth] if rng.random() < flipped else truth
        rows.append({"text": text, "label": label, "truth": truth})
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nobody writes to it."""
    from tracemend.mend import repair
    from tracemend.models import tiny
    from tracemend.studio.prepare import Loaded, prepare
    from tracemend.studio.versions import versions

    folder = tmp_path_factory.mktemp("studio")
    model = tiny("bert")
    model.network.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    repair(
        frame(),
        truth="truth",
        model=folder / "model",
        out=folder / "run",
        adapter="head",
        epochs=2,
        max_length=24,
        precision="fp32",
        rounds=1,
        noise=0.1,
        stop="fixed",
        rank="trusted",  # a random model knows too little for consensus to act on it
    )
    loaded = Loaded.of(folder / "run")
    for one in versions(folder / "run"):
        prepare(loaded, one)
    return folder / "run"


@pytest.fixture
def run(prepared: Path, tmp_path: Path) -> Path:
    """A copy to write to."""
    copy = tmp_path / "run"
    shutil.copytree(prepared, copy)
    return copy


@pytest.fixture
def session(run: Path) -> Session:
    return Session(run)


def worker_of(run: Path, number: str = "0001") -> psutil.Process:
    """The process of a job, once it is there."""
    about = run / "studio" / "jobs" / number / "worker.json"
    end = time.monotonic() + 20
    while not about.exists() and time.monotonic() < end:
        time.sleep(0.05)
    return psutil.Process(read_json(about)["pid"])
