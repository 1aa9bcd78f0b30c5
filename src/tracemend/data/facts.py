"""Facts and the patterns that ask for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from tracemend.data.tables import table_from_file
from tracemend.errors import DataError, did_you_mean
from tracemend.runs import fingerprint

# The arm of wordings that asks without a twist.
PLAIN = "plain"


class Fact(NamedTuple):
    """A subject and what stands in a relation to it."""

    relation: str
    subject: str
    object: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts by relation, with patterns in which ``[X]`` stands for the subject and ``[Y]`` for the object.

    Attributes:
        facts: no fact twice.
        patterns: of every relation at least one.
        name: for messages.
        texts: that speak of the subjects, from which further patterns can be mined; see :meth:`with_texts`.
        wordings: by arm, texts of the facts' own with ``[Y]`` for the object, which stand for the patterns: ``plain``,
            and others to compare with it (``negated``, ``misprimed``), each of every fact.
    """

    facts: tuple[Fact, ...]
    patterns: Mapping[str, tuple[str, ...]]
    name: str = "facts"
    texts: tuple[str, ...] = ()
    wordings: Mapping[str, Mapping[Fact, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.facts:
            raise DataError(f"{self.name} holds no fact with a pattern; is it the right folder?")
        for relation, patterns in self.patterns.items():
            for pattern in patterns:
                if pattern.count("[X]") != 1 or pattern.count("[Y]") != 1:
                    raise DataError(
                        f"the pattern {pattern!r} of {relation} needs [X] for the subject and [Y] for the object, once "
                        "each."
                    )
        lacking = {fact.relation for fact in self.facts} - {r for r, of in self.patterns.items() if of}
        if lacking:
            raise DataError(f"{self.name} has no pattern for the relations {', '.join(sorted(lacking))}.")
        twice = len(self.facts) - len(set(self.facts))
        if twice:
            raise DataError(f"{self.name} holds {twice} facts twice; drop the copies, they would count double.")
        if self.wordings and PLAIN not in self.wordings:
            raise DataError(f"{self.name} has the wordings {', '.join(self.wordings)} and no {PLAIN!r} beside them.")
        for arm, of in self.wordings.items():
            for fact in self.facts:
                if of.get(fact, "").count("[Y]") != 1:
                    raise DataError(f"the {arm} wording of {fact} needs [Y] for the object, once.")

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def relations(self) -> tuple[str, ...]:
        """In the order in which they occur."""
        return tuple(dict.fromkeys(fact.relation for fact in self.facts))

    @property
    def fingerprint(self) -> str:
        """Sha256 (16 hex digits) over all of it."""
        own = [[arm, [of[fact] for fact in self.facts]] for arm, of in self.wordings.items()]
        return fingerprint(self.facts, dict(self.patterns), *([self.texts] if self.texts else []), *own)

    def with_texts(self, texts: Iterable[str]) -> Self:
        """With texts to mine patterns from.

        Raises:
            DataError: there is no text.
        """
        kept = tuple(texts)
        if not kept:
            raise DataError(f"there is no text to mine patterns of {self.name} from; give at least one.")
        return replace(self, texts=kept)

    def of(self, relations: Iterable[str]) -> Self:
        """The facts of some relations.

        Raises:
            DataError: there is no such relation.
        """
        wanted = list(relations)
        for relation in wanted:
            if relation not in self.relations:
                raise DataError(f"the relation {relation!r} is {did_you_mean(relation, self.relations)}")
        kept = tuple(fact for fact in self.facts if fact.relation in wanted)
        return replace(self, facts=kept, patterns={r: self.patterns[r] for r in wanted})

    def sample(self, per_relation: int, *, seed: int = 0) -> Self:
        """At most so many random facts of each relation."""
        rng = np.random.default_rng(seed)
        kept: list[Fact] = []
        for relation in self.relations:
            own = [fact for fact in self.facts if fact.relation == relation]
            kept += [own[i] for i in sorted(rng.permutation(len(own))[:per_relation])]
        return replace(self, facts=tuple(kept))


def read_facts(folder: Path | str) -> Facts:
    """Read ``facts.jsonl`` (relation, subject, object) and ``patterns.jsonl`` (relation, pattern) of a folder.

    The form of ParaRel (Elazar et al. 2021). Facts whose object stands in the subject's name are left out, since the
    name gives them away (Poerner et al. 2020); so are relations without a pattern, and copies.

    Raises:
        DataError: a file or column is missing, or a pattern lacks [X] or [Y].
    """
    path = Path(folder)
    rows, asked = (table_from_file(path / name).frame for name in ("facts.jsonl", "patterns.jsonl"))
    for frame, columns, name in ((rows, Fact._fields, "facts"), (asked, ("relation", "pattern"), "patterns")):
        lacking = [column for column in columns if column not in frame]
        if lacking:
            raise DataError(f"{path / name}.jsonl has no field {lacking[0]!r}; expected {', '.join(columns)}.")
    patterns: dict[str, tuple[str, ...]] = {}
    for relation, pattern in zip(asked["relation"], asked["pattern"], strict=True):
        patterns[str(relation)] = (*patterns.get(str(relation), ()), str(pattern))
    found = [Fact(*(str(cell) for cell in row)) for row in rows[list(Fact._fields)].itertuples(index=False)]
    kept = [f for f in dict.fromkeys(found) if f.relation in patterns and f.object.lower() not in f.subject.lower()]
    relations = {fact.relation for fact in kept}
    return Facts(facts=tuple(kept), patterns={r: p for r, p in patterns.items() if r in relations}, name=str(folder))
