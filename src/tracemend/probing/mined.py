"""Patterns mined from texts: what stands between a subject and its object."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from tracemend.data import Fact

_SPACE = re.compile(r"\s+")


def mined_patterns(
    facts: Sequence[Fact], texts: Sequence[str], *, most: int = 10, longest: int = 6, both_ways: bool = False
) -> list[str]:
    """The words that stand between subject and object in texts, as patterns (LPAQA's middle words).

    A subject and the nearest object behind it, as whole words of one text, give the pattern ``[X] words [Y]``. Patterns
    that more facts give come first, then those that more places give (Jiang et al. 2020, arXiv 1911.12543, section
    3.1; what they parse for is not looked for).

    Args:
        facts: of one relation; only those that a search may see.
        texts: sentences or passages.
        most: patterns.
        longest: words of the middle.
        both_ways: objects before their subject count as well, ``[Y] words [X]``; no decoder can use these.

    Returns:
        Patterns, the best supported first; none where no text holds both of a fact.

    Example:
        >>> mined_patterns([Fact("capital", "Bern", "Switzerland")], ["She left Bern, the capital of Switzerland."])
        ['[X], the capital of [Y]']
    """
    facts_of: dict[str, set[Fact]] = defaultdict(set)
    places: Counter[str] = Counter()
    for fact in facts:
        ways = [(fact.subject, fact.object, "[X]", "[Y]")]
        if both_ways:
            ways.append((fact.object, fact.subject, "[Y]", "[X]"))
        holding = [text for text in texts if fact.subject in text and fact.object in text]
        for before, after, one, other in ways:
            for text in holding:
                for middle in _between(before, after, text):
                    # A middle that names either again, or looks like a gap itself, makes no pattern; nor does one that
                    # the name is glued to, as what is asked for stands behind a space.
                    named = any(name in middle for name in (fact.subject, fact.object, "[X]", "[Y]"))
                    if named or len(middle.split()) > longest or not middle.endswith(" "):
                        continue
                    pattern = f"{one}{middle}{other}"
                    facts_of[pattern].add(fact)
                    places[pattern] += 1
    return sorted(places, key=lambda pattern: (-len(facts_of[pattern]), -places[pattern], pattern))[:most]


def _between(before: str, after: str, text: str) -> list[str]:
    """What stands between each place of one and the nearest place of the other behind it, in one line."""
    if before == after:
        return []
    ends = [match.end() for match in re.finditer(rf"(?<!\w){re.escape(before)}(?!\w)", text)]
    starts = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(after)}(?!\w)", text)]
    found = []
    for end in ends:
        behind = [start for start in starts if start > end]
        if behind:
            found.append(_SPACE.sub(" ", text[end : behind[0]]))
    return found
