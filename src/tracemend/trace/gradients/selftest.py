"""Do the batched gradients agree with the batch-1 reference? Asked on a sample before they are trusted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tracemend.trace.gradients.engine import Batched, Loop
from tracemend.trace.gradients.vmap import Vmap

COSINE = 0.9999
NORM = 0.01


def agreement(
    fast: Batched | Vmap, rows: Sequence[Sequence[int]], y: Tensor, *, sample: int = 4, seed: int = 0
) -> str | None:
    """Compare batched rows with the reference on a seeded sample, in parameter space.

    Args:
        rows: token ids of the examples; ``sample`` of them are compared, in one batch, so that padding is part of it.
        y: labels [n].

    Returns:
        None where every sampled gradient has a cosine of at least 0.9999 with its reference and a norm within 1 %;
        else a sentence that says what was found.
    """
    picked = np.sort(np.random.default_rng(seed).permutation(len(rows))[:sample])
    chosen, labels = [rows[i] for i in picked], y[torch.as_tensor(picked, device=y.device)]
    reference = Loop(fast.traced)
    expected = reference(chosen, labels).gradients
    found = fast(chosen, labels).gradients
    names = [block.name for block in reference.layout]
    for i, row in enumerate(found):
        by_name = fast.chain(row)
        ours = torch.cat([by_name[name].flatten().float() for name in names]).double()
        theirs = expected[i].double()
        larger = max(float(ours.norm()), float(theirs.norm()))
        if larger < 1e-12:  # both vanish
            continue
        cosine = float(torch.nn.functional.cosine_similarity(ours, theirs, dim=0, eps=1e-30))
        error = abs(float(ours.norm()) - float(theirs.norm())) / larger
        # Negated, so that NaN fails.
        if not (cosine >= COSINE and error <= NORM):
            return (
                f"a sampled gradient has cosine {cosine:.6f} with its reference and a norm that is off by {error:.2%} "
                f"(expected at least {COSINE} and at most {NORM:.0%})"
            )
    return None
