"""What a classifier's layers hold of texts, and how its answer changes as they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracemend.errors import ConceptError
from tracemend.models import capture
from tracemend.progress import Progress
from tracemend.tuning import TextClassifier
from tracemend.tuning.adapted import Pair


@dataclass(frozen=True, eq=False)
class States:
    """Texts at some layers of a classifier.

    Attributes:
        mean: mean over the tokens of the text of the block's output [layers, n, d], float32 on the CPU.
        gradient: sum over these tokens of the gradient of the log-odds of a label [layers, n, d]; None where none was
            asked for. Its product with a direction says how the log-odds change as all tokens move along it.
        answer: index of the most probable label [n].
    """

    mean: Tensor
    gradient: Tensor | None
    answer: Tensor


def site_of(layer: int) -> str:
    """The site of a layer, counted as transformers counts hidden states: 1 is the output of the first block."""
    return f"blocks.{layer - 1}.hook_resid_post"


def states(
    classifier: TextClassifier,
    pairs: Sequence[Pair],
    layers: Sequence[int],
    *,
    target: int | None = None,
    batch_size: int = 32,
    progress: Progress = Progress(),
) -> States:
    """Read texts as the classifier reads them.

    Special tokens and the words of a prompt are of no text, so they count neither in the mean nor in the sum.

    Args:
        classifier: in evaluation mode.
        pairs: texts with their replies.
        layers: from 1, the output of the first block.
        target: index of the label whose log-odds get a gradient; None takes none.
        batch_size: texts at a time.
        progress: shown.

    Raises:
        ConceptError: inside ``torch.inference_mode``, where nothing has a gradient; or a text without a token.
        ModelError: the architecture's sites are not known.
    """
    if target is not None and torch.is_inference_mode_enabled():
        raise ConceptError(
            "gradients were asked for inside torch.inference_mode(), where tensors have none; leave that block first."
        )
    rows, _ = classifier.encode(pairs)
    places = classifier.places(pairs)
    names = [site_of(layer) for layer in layers]
    width = classifier.language_model.hidden_size
    mean = torch.zeros(len(layers), len(rows), width)
    gradient = None if target is None else torch.zeros(len(layers), len(rows), width)
    answer = torch.zeros(len(rows), dtype=torch.long)
    for part in progress.track(classifier.buckets(rows, batch_size), task=f"read {classifier.language_model.name}"):
        batch = classifier.batch([rows[i] for i in part])
        seq = batch["input_ids"].shape[1]
        own = _own(part, places, pairs, seq).to(batch["input_ids"].device)
        with (
            torch.set_grad_enabled(target is not None),
            capture(classifier.network, names, grad=target is not None) as seen,
        ):
            logits = classifier.logits(batch)
        at = torch.from_numpy(part)
        answer[at] = logits.argmax(1).cpu()
        slopes: Sequence[Tensor] = ()
        if target is not None:
            others = [c for c in range(logits.shape[1]) if c != target]
            odds = logits[:, target] - logits[:, others].logsumexp(1)
            # Only these tensors get a gradient: the parameters' own stay as they were.
            slopes = torch.autograd.grad(odds.sum(), [seen[name] for name in names])
        for k, name in enumerate(names):
            # Virtual tokens come first.
            hidden = seen[name].detach()[:, -seq:].float()
            mean[k, at] = ((hidden * own).sum(1) / own.sum(1)).cpu()
            if gradient is not None:
                gradient[k, at] = (slopes[k][:, -seq:].float() * own).sum(1).cpu()
    return States(mean, gradient, answer)


def _own(part: np.ndarray[tuple[int], np.dtype[np.int64]], places: Sequence[Sequence[object]], pairs: Sequence[Pair],
         seq: int) -> Tensor:  # fmt: skip
    """1 for a token of the text or the reply, 0 for all else [batch, seq, 1]."""
    found = torch.zeros(len(part), seq, 1)
    for k, i in enumerate(part.tolist()):
        own = [place is not None for place in places[i]]
        if not any(own):
            raise ConceptError(f"the model's tokenizer reads no token of {pairs[i][0][:40]!r}; leave the text out.")
        found[k, : len(own), 0] = torch.tensor(own, dtype=torch.float32)
    return found
