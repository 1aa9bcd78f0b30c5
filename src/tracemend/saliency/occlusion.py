"""Saliency by occlusion: the reference that needs no gradient and no theory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from tracemend.saliency.faithfulness import Deleter
from tracemend.saliency.inputs import Batch, output_of
from tracemend.saliency.method import Saliency, Weighed
from tracemend.tuning import TextClassifier

# Texts with a word deleted that pass the network at once.
_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Occlusion(Saliency):
    r"""How far the output falls when one word is deleted.

    .. math:: w_i = f(x) - f(x \setminus x_i)

    (Zeiler & Fergus 2014; Li et al. 2016), one forward pass a word, with the deletion that the faithfulness is measured
    by. Two words of which each is enough both weigh little: that is what is true of each alone.

    Example:
        >>> Occlusion().run(classifier, [("what an awful film", None)]).words(0)
    """

    name = "saliency.occlusion"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder"})

    def tokens(self, classifier: TextClassifier, batch: Batch) -> Weighed:
        """The fall of the output, at the first token of each word [batch, seq]."""
        deleter = Deleter.of(classifier.language_model, self.deletion)
        # Each word of each text, and the text without it; word -1 is the whole text.
        asked, where = [], []
        for i, example in enumerate(batch.examples):
            asked.append(example.ids)
            where.append((i, -1))
            for word in example.read.nonzero()[0].tolist():
                asked.append(deleter.without(example, [word]))
                where.append((i, word))
        outputs = torch.zeros(len(asked))
        with torch.inference_mode():
            for part in classifier.buckets(asked, _AT_ONCE):
                logits = classifier.logits(classifier.batch([asked[k] for k in part]))
                classes = torch.tensor([int(batch.targets[where[k][0]]) for k in part], device=logits.device)
                outputs[torch.from_numpy(part)] = output_of(logits, classes, self.output).cpu()
        weights = torch.zeros(batch.ids.shape)
        whole = 0.0
        for (i, word), output in zip(where, outputs.tolist(), strict=True):
            if word < 0:
                whole = output
            else:
                weights[i, int((batch.examples[i].owner == word).nonzero()[0][0])] = whole - output
        return weights, {}
