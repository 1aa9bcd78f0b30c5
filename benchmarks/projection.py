"""How well scores from projected gradients follow the exact ones, and what they cost on disk.

    python benchmarks/projection.py

LoRA (r = 8, all attention projections) on minilm, tuned on sentences of uci_sentiment_sentences; one store of whole
gradients, then one for each width. Rank correlations are Spearman's, of all scores of a query, and the mean over
queries. The control compares with the scores of shuffled rows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Scores = npt.NDArray[np.floating]

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

WIDTHS = (16, 32, 64, 128, 256)


def main() -> None:
    """Measure and print."""
    import numpy as np

    from tracemend.data import reference
    from tracemend.models import load
    from tracemend.trace.scoring import DataInf, TracedQueries, TracInScore, score
    from tracemend.trace.store import GradientStore
    from tracemend.tuning import Tuning, tune

    given = _arguments()
    whole_set = reference("uci_sentiment_sentences")
    order = np.random.default_rng(0).permutation(len(whole_set))
    cuts = order[: given.rows], order[given.rows : given.rows + given.queries]
    train, queries = (whole_set.take(cut) for cut in cuts)
    tuned = tune(load("minilm"), train, queries, Tuning(adapter="lora", epochs=2, patience=0, max_length=64))
    hows = {"tracin": TracInScore(), "tracin, dot": TracInScore(normalise_train=False), "datainf": DataInf()}
    found, whole = [], 0
    with tempfile.TemporaryDirectory() as folder:
        exact: dict[str, np.ndarray] = {}
        for width in (None, *WIDTHS):
            path = Path(folder) / str(width)
            store = GradientStore.build(path, tuned.classifier, train, tuned.checkpoints[-1:], project=width)
            asked = TracedQueries(tuned.classifier, queries, tuned.checkpoints[-1:])
            for name, how in hows.items():
                scores = np.array(score(store, asked, how, dense=path / f"{name}.npy").matrix())
                if width is None:
                    exact[name] = scores
                    continue
                row = {"width": width, "score": name, "numbers": store.width, **agreement(exact[name], scores)}
                found.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
            if width is None:
                whole = store.width
    if given.json:
        print(json.dumps({"whole": whole, "rows": found}, indent=2))
        return
    print(f"whole rows: {whole} numbers; {given.rows} rows, {given.queries} queries\n")
    print("| width | numbers a row | score | rank correlation | lowest of a query | top 20 shared | control |")
    print("|---|---|---|---|---|---|---|")
    for row in found:
        print(
            f"| {row['width']} | {row['numbers']} | {row['score']} | {row['spearman']:.3f} | {row['lowest']:.3f} | "
            f"{row['top_20']:.2f} | {row['control']:.3f} |"
        )


def agreement(exact: Scores, found: Scores) -> dict[str, float]:
    """Rank correlation a query, share of the 20 strongest opponents that both name, and the correlation by chance."""
    import numpy as np
    from scipy.stats import spearmanr

    each = [spearmanr(exact[:, q], found[:, q]).statistic for q in range(exact.shape[1])]
    shuffled = np.random.default_rng(0).permutation(len(found))
    chance = [spearmanr(exact[:, q], found[shuffled, q]).statistic for q in range(exact.shape[1])]
    strongest = [set(np.argsort(m, axis=0)[:20, q]) for m in (exact, found) for q in range(exact.shape[1])]
    half = len(strongest) // 2
    shared = [len(strongest[q] & strongest[half + q]) / 20 for q in range(half)]
    return {
        "spearman": float(np.mean(each)),
        "lowest": float(np.min(each)),
        "top_20": float(np.mean(shared)),
        "control": float(np.mean(chance)),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
