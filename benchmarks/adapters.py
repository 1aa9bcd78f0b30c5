"""Which adapter tunes best on minilm, clean and with 30 % flips, and what bfloat16 saves; surge-toxicity, 500 examples.

    python benchmarks/adapters.py --seeds 2

For orientation: frozen embeddings with logistic regression stand beside it.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")


def main() -> None:
    """Print one row an adapter and precision: test AP and accuracy, means over seeds, and seconds an epoch."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from tracemend.data import corrupt, make_splits, reference
    from tracemend.evaluate import scores
    from tracemend.models import load
    from tracemend.trace import embed
    from tracemend.tuning import KINDS, Tuning, tune

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--set", default="surge-toxicity")
    parser.add_argument("--epochs", type=int, default=6)
    given = parser.parse_args()
    model = load("minilm")
    print("| adapter | precision | AP clean | accuracy clean | AP 30 % flips | seconds an epoch |")
    print("|---|---|---|---|---|---|")
    arms: list[tuple[Any, Any]] = [(kind, "bf16") for kind in KINDS] + [("prompt", "fp32"), ("lora", "fp32")]
    for kind, precision in [*arms, ("frozen", "fp32")]:
        rows = []
        for seed in range(given.seeds):
            parts = make_splits(reference(given.set), seed=seed, validation_share=0.2, test_share=0.3)
            test = parts.test or parts.verdict
            noisy = corrupt(parts.train, rate=0.3, seed=seed)
            for train in (parts.train, noisy):
                began = time.monotonic()
                if kind == "frozen":
                    fit = LogisticRegression(C=10, max_iter=2000).fit(embed(model, train.pairs), train.y)
                    p = fit.predict_proba(embed(model, test.pairs))
                else:
                    tuning = Tuning(
                        adapter=kind, epochs=given.epochs, patience=0, max_length=64, precision=precision, seed=seed
                    )
                    tuned = tune(model, train, parts.validation, tuning)
                    p = tuned.classifier.probabilities(test.pairs)
                found = scores(test.y, p, test.positive_index)
                rows.append((found["ap"], found["accuracy"], (time.monotonic() - began) / given.epochs))
        clean, flipped = np.array(rows[0::2]), np.array(rows[1::2])
        print(
            f"| {kind} | {precision} | {clean[:, 0].mean():.3f} | {clean[:, 1].mean():.3f} | "
            f"{flipped[:, 0].mean():.3f} | {np.concatenate([clean, flipped])[:, 2].mean():.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
