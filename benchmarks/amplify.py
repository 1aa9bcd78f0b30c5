"""Key words of a proxy in the prompts of a decoder: whether it answers better for them.

    python -m benchmarks.amplify --out benchmarks/results/amplify.json

SST-2; the decoder is smollm2, the proxy minilm (LoRA). The figures of :class:`tracemend.mend.Amplify`: the decoder's
answers to verdict sentences with key words in its examples, with random words, with another sample's words, with labels
alone, and without examples. Intervals are over sentences, paired.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks.seeds import each_seed
from tracemend.data import make_splits, reference, sample
from tracemend.mend import Amplify
from tracemend.models import LanguageModel, load
from tracemend.tuning import Tuning


def seed_of(seed: int, model: LanguageModel, given: argparse.Namespace) -> dict[str, Any]:
    """The figures of every arm, and the findings."""
    splits = make_splits(sample(reference("sst2"), given.train, seed=seed), seed=seed)
    method = Amplify(
        shots=given.shots,
        asked=given.asked,
        checked=given.checked,
        tuning=Tuning(epochs=given.epochs, max_length=64, patience=0),
        seed=seed,
    )
    began = time.process_time()
    result = method.run(load("smollm2"), splits, proxy=model)
    arms = {"key words": dict(result.metrics), **{arm: dict(of) for arm, of in result.controls.items()}}
    facts = {name: result.facts[name] for name in ("wrong", "asked", "checked", "proxy_accuracy")}
    print(result.arms().to_string(), *result.findings, sep="\n", flush=True)
    return {
        "arms": arms,
        "findings": list(result.findings),
        **facts,
        "seconds": round(time.process_time() - began, 1),
    }


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """What was found about the key words, seed by seed."""
    return {seed: of["findings"] for seed, of in found.items()}


def main() -> None:
    """Print the figures as JSON, and write them where ``--out`` says; what is there already is not done again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=600, help="sentences, of which parts are validation and verdict")
    parser.add_argument("--epochs", type=int, default=3, help="of the proxy")
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--asked", type=int, default=40, help="validation sentences that samples are chosen from")
    parser.add_argument("--checked", type=int, default=80, help="verdict sentences that are asked about")
    each_seed(parser, seed_of, summary)


if __name__ == "__main__":
    main()
