"""Whether a repair helped, on examples that ranked, fitted and stopped nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tracemend.data import Labelled
from tracemend.evaluate import METRICS, Comparison, average_precision, paired_bootstrap
from tracemend.evaluate.resampling import few

_STAYS = "The original set is the recommended one."
_STAYS_ANSWERED = "The original set, with what people decided, is the recommended one."
NAMES = {"ap": "average precision", "accuracy": "accuracy", "macro_f1": "macro-F1"}


@dataclass(frozen=True)
class Verdict:
    """The comparison before and after, and what follows from it.

    Attributes:
        recommended: ``repaired``, or ``original`` where the repair is not shown to help.
        sentence: the same in words.
        comparisons: one a metric, with paired bootstrap intervals.
        against: what is compared with, in words.
    """

    recommended: str
    sentence: str
    comparisons: tuple[Comparison, ...]
    against: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON values, for result.json."""
        compared = [asdict(c) for c in self.comparisons]
        facts = {"recommended": self.recommended, "sentence": self.sentence, "comparisons": compared}
        return {**facts, "against": self.against}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Verdict:
        """From the :attr:`facts` that result.json holds."""
        compared = tuple(Comparison(**c) for c in facts["comparisons"])
        return cls(facts["recommended"], facts["sentence"], compared, facts.get("against", ""))


def verdict(
    data: Labelled,
    before: npt.NDArray[Any],
    after: npt.NDArray[Any],
    *,
    acted: int,
    tried: int = 0,
    answers: int = 0,
    against: str = "the start",
    of: str | None = None,
    noisy: bool = False,
    seed: int = 0,
) -> Verdict:
    """Compare two classifiers' probabilities [n, C] on the verdict set.

    Args:
        acted: decisions up to the chosen round, answers of people among them where a round after them was chosen.
        tried: decisions of all rounds, without those of people.
        answers: labels that people changed or left out, which stand whichever set is recommended.
        against: what ``before`` is, in words.
        of: what ``after`` is, in words, where two classifiers are compared and no repair is judged: nothing is said of
            an original set then.
        noisy: whether the labels compared by may be wrong themselves; the rule stays, the sentence says so. Wrong
            labels that fall on both alike pull every difference towards zero, and are no reason for one.

    The repaired set is recommended where average precision is shown to be higher, or where another figure is and
    average precision is not shown to be lower. As any of the three may speak for it, a rise counts where the interval
    at 1 - 0.05 / 3 excludes zero (Bonferroni); a fall counts at 0.95. Accuracy and macro-F1 are those of the most
    probable label, so that no threshold chosen for one of the two favours it. With authors or conversations the
    bootstrap resamples whole groups; few of them get a wider interval, and the sentence says so.
    """
    names = NAMES if len(data.labels) == 2 else {**NAMES, "ap": f"{NAMES['ap']} (mean over the labels)"}
    found = tuple(compare(metric, data, before, after, seed=seed) for metric in METRICS)
    by_name: Mapping[str, Comparison] = {c.metric: c for c in found}
    rose = [c for c in found if c.shown and c.difference > 0]
    up = [c for c in rose if compare(c.metric, data, before, after, level=1 - 0.05 / len(METRICS), seed=seed).shown]
    down = [c for c in found if c.shown and c.difference < 0]
    helped = bool(up) and by_name["ap"] not in down
    stays = _STAYS_ANSWERED if answers else _STAYS
    if of is not None:
        stays = f"Nothing speaks for {of} in place of {against}."
    if not acted and answers:
        sentence = (
            f"No round was better on validation than the start ({tried} labels were tried beside {answers} that people "
            "decided). The original set with what people decided stands; no classifier tuned on that set was judged."
        )
        return Verdict("original", sentence, found, against)
    if not acted and tried:
        sentence = (
            f"No round was better on validation than the start ({tried} labels were tried); the original set stands."
        )
        return Verdict("original", sentence, found, against)
    if not acted:
        sentence = "No label was found suspect enough to act on; the original set stands."
        return Verdict("original", sentence, found, against)
    if helped:
        what = f"on {len(data)} examples that steered nothing it changed {_listed(up, names)}"
        said = "The repair helped" if of is None else f"{of} is better"
        sentence = f"{said}: {what}, compared with {against}."
        if down:
            sentence += f" But {' and '.join(names[c.metric] for c in down)} fell."
    elif down:
        fell = " and ".join(f"{names[c.metric]} by {c.difference:+.3f}" for c in down)
        said = "The repair did harm" if of is None else f"{of} is worse"
        sentence = f"{said}: it changed {fell}, compared with {against}. {stays}"
    elif rose:
        sentence = (
            f"Not shown: compared with {against} it changed {_listed(rose, names)}, but with {len(METRICS)} figures "
            f"looked at that is not rare by chance. {stays}"
        )
    else:
        ap = by_name["ap"]
        sentence = (
            f"Not shown: compared with {against}, {names['ap']} changed by {ap.difference:+.3f}, and the interval "
            f"({ap.low:+.3f} to {ap.high:+.3f}) covers zero. {stays}"
        )
    if not helped and not down and (known := _groups(data)) is not None and few(known):
        sentence += (
            f" It goes by {known.max() + 1} authors or conversations: so few show large changes alone. Judge by "
            "examples of more."
        )
    if noisy:
        sentence += " The labels it is judged by may be wrong as well."
    return Verdict("repaired" if helped else "original", sentence, found, against)


def compare(
    metric: str,
    data: Labelled,
    before: npt.NDArray[Any],
    after: npt.NDArray[Any],
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """One figure of two classifiers' probabilities [n, C], resampled by author or conversation where there are any."""
    groups = None if (known := _groups(data)) is None else known.tolist()
    return paired_bootstrap(
        metric, data.y, before, after, positive_index=data.positive_index, groups=groups, level=level, seed=seed
    )


def _groups(data: Labelled) -> npt.NDArray[np.int64] | None:
    """Number of each example's author or conversation [n]; None where nobody knows any."""
    return data.group_ids if data.frame["group"].notna().any() else None


def beside_start(
    found: Verdict, data: Labelled, start: npt.NDArray[Any], after: npt.NDArray[Any], *, answers: int = 0
) -> Verdict:
    """The verdict of a comparison with other than the start, if the repair is no worse than the start as well.

    Which of two references is the better one was read off validation; a repair that falls behind either helps nobody.

    Args:
        found: the verdict against the other reference.
        start: the start's probabilities on ``data`` [n, C].
        after: the repaired classifier's [n, C].
        answers: as in :func:`verdict`.
    """
    was, now = (average_precision(data.y, p, data.positive_index) for p in (start, after))
    if found.recommended == "original" or now > was:
        return found
    sentence = (
        f"Not shown: it is better than {found.against}, but not than the start, whose average precision is {was:.3f} "
        f"beside {now:.3f}. {_STAYS_ANSWERED if answers else _STAYS}"
    )
    return replace(found, recommended="original", sentence=sentence)


def _listed(found: Sequence[Comparison], names: Mapping[str, str]) -> str:
    return " and ".join(f"{names[c.metric]} by {c.difference:+.3f} ({c.low:+.3f} to {c.high:+.3f})" for c in found)
