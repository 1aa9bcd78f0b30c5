"""A tiny model in a folder, small files, and the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from tracemend.cli import app

WORDS = {
    "safe": ["love", "great", "nice", "happy", "thanks", "please"],
    "unsafe": ["hate", "awful", "terrible", "bad", "sad", "toxic"],
}
# What makes a run take about a second.
FAST = ("--adapter", "head", "--epochs", "2", "--max-length", "24", "--precision", "fp32", "--quiet")
# A random model knows too little for consensus to act on it; a fit in its gradient kernel acts all the same.
DARING = ("--truth", "truth", "--rank", "trusted")

Run = Callable[..., Result]


def frame(n: int = 120, *, seed: int = 0, flipped: float = 0.25, offset: int = 0) -> pd.DataFrame:
    """Messages whose words tell the truth; some labels do not."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        truth = ("safe", "unsafe")[i % 2]
        # Numbers keep the texts from being near-duplicates of one another.
        text = f"{' '.join(rng.choice(WORDS[truth], 3))} {rng.integers(10**9)} {i + offset}"
        label = {"safe": "unsafe", "unsafe": "safe"}[truth] if rng.random() < flipped else truth
        rows.append({"text": text, "label": label, "truth": truth})
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def run() -> Run:
    """Run ``tracemend`` with these arguments."""
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds ``model``, ``clean.csv`` and ``noisy.csv``, shared by all tests: nobody writes to it."""
    from tracemend.models import tiny

    path = tmp_path_factory.mktemp("cli")
    model = tiny("bert")
    model.network.save_pretrained(path / "model")
    model.tokenizer.save_pretrained(path / "model")
    frame().to_csv(path / "noisy.csv", index=False)
    frame(flipped=0).drop(columns="truth").to_csv(path / "clean.csv", index=False)
    return path


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory with links to the shared files."""
    for name in ("model", "clean.csv", "noisy.csv"):
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def repaired(folder: Path, run: Run) -> Path:
    """A finished repair, with the truth known."""
    out = folder / "repaired"
    done = run(*repair_of(folder / "noisy.csv", out, model=folder / "model"), *DARING)
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="session")
def tuned(folder: Path, run: Run) -> Path:
    """A finished tuning."""
    out = folder / "tuned"
    given = ("tune", folder / "noisy.csv", "--text", "text", "--label", "label", "--model", folder / "model")
    done = run(*given, *FAST, "--out", out)
    assert done.exit_code == 0, done.output
    return out


def repair_of(file: Path | str, out: Path | str, *, model: Path | str = "model") -> tuple[Path | str, ...]:
    """A repair of a second or so."""
    named = ("--text", "text", "--label", "label", "--model", model, "--out", out)
    return ("repair", file, *named, *FAST, "--rounds", "1")
