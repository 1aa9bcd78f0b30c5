"""What a unit does on a text, token by token, beside what it does on training texts at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracemend.arrays import Floats
from tracemend.errors import NeuronError
from tracemend.models.sites import sites
from tracemend.neurons.texts import on_tokens
from tracemend.neurons.units import check_site
from tracemend.tuning import TextClassifier

Pair = tuple[str, str | None]

# Sites that the page offers of every block: neurons, heads, stream. Training texts that a text is compared with.
_OFFERED = ("mlp.hook_post", "attn.hook_z", "hook_resid_post")
COMPARED = 64
_NEVER = 1e-6


@dataclass(frozen=True, eq=False)
class Usual:
    """What the units of a site do on texts at random.

    Attributes:
        highest: of each unit on each text [n, d].
        middle: each unit's mean over all tokens [d].
        reach: how far it goes from that at most [d].
    """

    highest: Floats
    middle: Floats
    reach: Floats

    @classmethod
    def of(cls, classifier: TextClassifier, pairs: Sequence[Pair], site: str) -> Usual:
        """Read the texts."""
        check_site(classifier.network, site)
        seen = on_tokens(classifier, pairs, site)
        highest = np.stack([h.max(0) for h, _ in seen if len(h)])
        whole = np.concatenate([h for h, _ in seen])
        middle = whole.mean(0)
        return cls(highest, middle, np.abs(whole - middle).max(0))

    def apart(self, highest: Floats) -> Floats:
        """How many standard deviations each unit's highest lies above its usual highest, of texts [..., d]."""
        found: Floats = (highest - self.highest.mean(0)) / np.maximum(self.highest.std(0), _NEVER)
        return np.where(self.reach > _NEVER, found, -np.inf)


def offered(classifier: TextClassifier) -> list[str]:
    """The sites that the page lists."""
    known = (site.name for site in sites(classifier.network))
    return [name for name in known if name.endswith(_OFFERED) and not name.startswith("decoder.")]


def unit_view(classifier: TextClassifier, usual: Usual, pair: Pair, site: str, unit: int | None) -> dict[str, Any]:
    """A text with a unit's activation on each token, for the page.

    Args:
        classifier: whose unit; it is left as it was.
        usual: of the same classifier and site.
        pair: the text, and its reply where there is one.
        site: the unit's.
        unit: which; None takes the one that lies furthest above its usual highest.

    Returns:
        ``pieces`` (part, piece, and how far above or below its mean as a share of its reach, None for what is no
        token), ``unit``, ``units`` of the site, ``highest`` here, ``as_high`` (share of the other texts with as high a
        one), ``texts`` (how many), ``apart`` (standard deviations above the usual) and ``apart_usual``, the same of
        the unit that is furthest above on a text at random.

    Raises:
        NeuronError: the site has no such unit, or no token of the text is read.
    """
    ((h, places),) = on_tokens(classifier, [pair], site)
    width = len(usual.middle)
    if unit is not None and not 0 <= unit < width:
        raise NeuronError(f"unit {unit} is out of range: {site} has {width}, 0 to {width - 1}.")
    if not len(h):
        raise NeuronError("the model reads no token of this text, so there is nothing to be seen of a unit.")
    apart = usual.apart(h.max(0))
    chosen = int(apart.argmax()) if unit is None else unit
    one = h[:, chosen]
    reach = float(usual.reach[chosen])
    weights = np.clip((one - usual.middle[chosen]) / reach, -1, 1) if reach > _NEVER else np.zeros(len(one))
    pieces: list[tuple[str, str, float | None]] = []
    for part, (name, whole) in enumerate((("text", pair[0]), ("reply", pair[1]))):
        at = 0
        for (of, start, end), weight in zip(places, weights.tolist(), strict=True):
            if of != part or end <= at:  # several tokens may be parts of one character
                continue
            if start > at:
                pieces.append((name, str(whole)[at:start], None))
            pieces.append((name, str(whole)[max(start, at) : end], round(weight, 4)))
            at = end
        if whole is not None and at < len(whole):
            pieces.append((name, whole[at:], None))
    return {
        "pieces": pieces, "site": site, "unit": chosen, "units": width, "highest": round(float(one.max()), 4),
        "as_high": float((usual.highest[:, chosen] >= one.max()).mean()), "texts": len(usual.highest),
        "apart": _finite(apart[chosen]), "apart_usual": _finite(usual.apart(usual.highest).max(1).mean()),
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return round(float(value), 2) if np.isfinite(value) else None
