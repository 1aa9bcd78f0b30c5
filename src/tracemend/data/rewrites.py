"""Facts that a model is to be made to say otherwise, and prompts that tell whether only they changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from tracemend.data.facts import Fact, read_facts
from tracemend.data.prompts import Prompts
from tracemend.data.reference import reference_folder
from tracemend.errors import DataError
from tracemend.runs import fingerprint

BETWEEN = "|"


@dataclass(frozen=True, eq=False)
class Rewrites(Prompts):
    """Facts with what they are to become: ``prompt``, ``subject``, ``answer`` (said now), ``target`` (to be said).

    Two further columns may hold prompts, several of them parted by ``|``: ``paraphrases`` ask for the same fact in
    other words; ``neighbours`` ask for the same answer of other subjects, which an edit must leave alone.

    Attributes:
        frame: see :class:`~tracemend.data.prompts.Prompts`.
        corpus: plain texts, from which a method learns what else the weights are used for.
    """

    columns: ClassVar[tuple[str, ...]] = ("prompt", "subject", "answer", "target")
    further: ClassVar[tuple[str, ...]] = ("paraphrases", "neighbours")

    corpus: tuple[str, ...] = ()

    def within(self, corpus: Iterable[Any]) -> Self:
        """The same facts with this corpus.

        Raises:
            DataError: it is empty, or a text of it is.
        """
        texts = tuple(corpus)
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise DataError("the corpus has no texts, or one without words; give plain texts.")
        return dataclasses.replace(self, corpus=texts)

    def prompts(self, column: str, row: int) -> list[str]:
        """The prompts of ``paraphrases`` or ``neighbours`` in a row; none where there are none."""
        cell = self.frame[column][row] if column in self.frame else ""
        parts = str(cell).split(BETWEEN) if isinstance(cell, str) else []
        return [part.strip() for part in parts if part.strip()]

    @property
    def fingerprint(self) -> str:
        """Of the columns that count, and the corpus."""
        columns = [*self.columns, *(name for name in self.further if name in self.frame)]
        return fingerprint(type(self).__name__, self.frame[columns].astype(str).values.tolist(), self.corpus)


def rewrites_from_facts(
    facts: Sequence[Fact], patterns: dict[str, tuple[str, ...]], *, neighbours: int = 5, seed: int = 0
) -> Rewrites:
    """Facts of a relation, each to be given another object of the same relation.

    The first pattern that ends with the object asks; the others are paraphrases. Neighbours are other subjects with
    the same object, asked with the first pattern. Facts without both are left out.

    Args:
        facts: of any relations.
        patterns: by relation, with [X] for the subject and [Y] for the object.
        neighbours: at most, of each fact.
        seed: of the draw of targets and neighbours; the order of the facts is drawn as well.

    Raises:
        DataError: no fact has what is needed.
    """
    rng = np.random.default_rng(seed)
    asked = {
        r: [p[: p.index("[Y]")].strip() for p in of if p.rstrip(" .").endswith("[Y]")] for r, of in patterns.items()
    }
    of_relation: dict[str, list[Fact]] = {}
    for fact in facts:
        of_relation.setdefault(fact.relation, []).append(fact)
    rows: list[dict[str, Any]] = []
    for at in rng.permutation(len(facts)):
        fact = facts[at]
        forms = asked.get(fact.relation, [])
        own = of_relation[fact.relation]
        same = [other.subject for other in own if other.object == fact.object and other.subject != fact.subject]
        objects = sorted({other.object for other in own} - {fact.object})
        if len(forms) < 2 or not same or not objects:
            continue
        chosen = rng.permutation(len(same))[:neighbours]
        rows.append(
            {
                "prompt": forms[0].replace("[X]", fact.subject),
                "subject": fact.subject,
                "answer": fact.object,
                "target": str(rng.choice(objects)),
                "paraphrases": BETWEEN.join(form.replace("[X]", fact.subject) for form in forms[1:]),
                "neighbours": BETWEEN.join(forms[0].replace("[X]", same[i]) for i in chosen),
                "relation": fact.relation,
            }
        )
    if not rows:
        raise DataError("no fact has a second pattern that ends with [Y], another object and a neighbour.")
    return Rewrites.make(rows)


def reference_rewrites(relations: Iterable[str] | None = None, *, neighbours: int = 5, seed: int = 0) -> Rewrites:
    """Facts of the reference set ``pararel``, in random order; see :func:`rewrites_from_facts`.

    Args:
        relations: only these (P36, for instance); by default all.
        neighbours: at most, of each fact.
        seed: of the draws.

    Raises:
        DataError: the set is not there, or has no such relation.
    """
    known = read_facts(reference_folder("pararel"))
    if relations is not None:
        known = known.of(relations)
    return rewrites_from_facts(known.facts, dict(known.patterns), neighbours=neighbours, seed=seed)
