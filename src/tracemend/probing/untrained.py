"""Networks of the same shape that have learnt nothing: the control beside every probe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tracemend.models import LanguageModel, random_weights


def untrained(model: LanguageModel, count: int, *, seed: int = 0) -> Iterator[LanguageModel]:
    """Networks of the model's configuration with fresh weights, one at a time so that one is held at a time.

    Args:
        model: whose configuration and tokenizer they have; it is not touched.
        count: how many; one alone may be a lucky draw.
        seed: of the probe; the networks have the seeds behind it.

    Example:
        >>> [one.name for one in untrained(load("minilm"), 2)]
        ['minilm (random weights 1)', 'minilm (random weights 2)']
    """
    return (random_weights(model, seed=seed + 1 + i) for i in range(count))


def averaged(of_models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of each figure, or column, over the networks that have it.

    Example:
        >>> averaged([{"accuracy": 0.25}, {"accuracy": 0.75}])
        {'accuracy': 0.5}
    """
    names = dict.fromkeys(name for one in of_models for name in one)
    found = {name: np.mean([one[name] for one in of_models if name in one], axis=0) for name in names}
    return {name: float(of) if np.ndim(of) == 0 else of for name, of in found.items()}
