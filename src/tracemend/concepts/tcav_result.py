"""What TCAV gives back: scores with their tests, the scores of every vector, and the texts along each concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from tracemend.arrays import Doubles
from tracemend.concepts.result import ConceptsResult
from tracemend.evaluate import holm

# A vector that does not tell the concept from random texts points nowhere.
ACCURATE = 0.7
ALPHA = 0.05
# Random vectors, and random concepts, without which nothing is shown.
FEWEST_SETS = 20
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class TcavResult(ConceptsResult):
    """A row a layer, concept and what it is held against.

    Columns: ``layer``, ``concept``, ``against`` (``random``, or another concept: relative vectors), ``accuracy``
    (of the vectors on held-out examples), ``score`` (mean of the vectors' TCAV scores), ``sd``, ``random`` and
    ``random_sd`` (the same of random vectors), ``p`` (permutation), ``p_t`` (Welch's t-test), ``p_holm`` (``p``,
    corrected over the rows against random texts, and apart from them over the others), ``slope`` (what the log-odds
    gain along the vectors, the mean over vectors and texts), ``beyond`` (share of random concepts, for relative vectors
    pairs, whose slope lies as far from that of random vectors, itself counted), ``significant`` (``p_holm`` under
    0.05), ``shown`` (and ``beyond`` at most 0.05 of at least 20 random concepts).

    Attributes:
        draws: a row a vector: ``layer``, ``kind`` (``concept``, ``relative``, ``random``, ``random concept``,
            ``random pair``), ``concept``, ``against``, ``score``, ``accuracy``.
        examples: the texts most and least aligned with each concept at the method's layer: ``concept``, ``rank``,
            ``text``, ``alignment`` (cosine of the text's state, less the mean of random texts, with the mean vector),
            ``sensitivity`` (what the log-odds gain along it).
    """

    tables: ClassVar[tuple[str, ...]] = ("draws", "examples")

    draws: pd.DataFrame = field(default_factory=pd.DataFrame)
    examples: pd.DataFrame = field(default_factory=pd.DataFrame)

    def figure(self) -> Any:
        """Scores by layer, and how the scores of random vectors are spread: rarely around their mean."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, of in self.rows[self.rows["against"] == "random"].groupby("concept", sort=False):
            left.errorbar(of["layer"], of["score"], of["sd"], marker="o", capsize=3, label=str(name))
        random = self.rows.drop_duplicates("layer")
        left.errorbar(random["layer"], random["random"], random["random_sd"], color="#8a8a8a", ls=":", label="random")
        left.set(xlabel="layer", ylabel="TCAV score (with sd)", ylim=(-0.1, 1.1))
        left.legend(fontsize="small")
        at = self.facts.get("layer", random["layer"].iloc[-1])
        bins = np.linspace(0, 1, 21)
        here = self.draws[self.draws["layer"] == at]
        for kind, of in here[~here["kind"].isin(["relative", "random pair"])].groupby("kind", sort=False):
            for name, one in of.groupby("concept", sort=False) if kind == "concept" else [(kind, of)]:
                right.hist(one["score"], bins, histtype="step", density=True, label=str(name))
        right.set(xlabel=f"TCAV score of a vector, layer {at}", ylabel="density")
        right.legend(fontsize="small")
        return figure


def welch(one: Doubles, other: Doubles) -> float:
    """Welch's two-sided t-test; NaN where neither side varies."""
    if np.ptp(one) == 0 and np.ptp(other) == 0:
        return float("nan")
    return float(ttest_ind(one, other, equal_var=False).pvalue)


def as_far(gap: float, drift: Sequence[float]) -> float:
    """Share of concepts that lie as far from random vectors as this one: ``(1 + of random ones) / (1 + random ones)``.

    The concept itself counts, as in any permutation test: few random concepts can then show nothing.
    """
    return float((1 + (np.array(drift) >= abs(gap) - 1e-12).sum()) / (1 + len(drift)))


def corrected(table: pd.DataFrame, random_concepts: int) -> pd.DataFrame:
    """The table in its order, with Holm's p, those against random texts and relative ones apart."""
    relative = (table["against"] != "random").to_numpy()
    adjusted = np.full(len(table), np.nan)
    for part in (~relative, relative):
        adjusted[part] = holm(table.loc[part, "p"].to_numpy())
    table["p_holm"] = adjusted
    table["significant"] = adjusted < ALPHA
    table["shown"] = table["significant"] & (table["beyond"] <= ALPHA) & (random_concepts >= FEWEST_SETS)
    return table.assign(relative=relative).sort_values(["relative", "concept", "against", "layer"], kind="stable").drop(
        columns="relative").reset_index(drop=True)  # fmt: skip


def metrics_of(table: pd.DataFrame, at: int) -> dict[str, float]:
    """Scores and accuracies of the concepts at one layer, and shares of them that the tests find."""
    here = table[table["layer"] == at]
    own, relative = here[here["against"] == "random"], here[here["against"] != "random"]
    found = {f"{figure} {row['concept']}": float(row[figure]) for row in own.to_dict("records")
             for figure in ("score", "accuracy")}  # fmt: skip
    found |= {name: float(own[name].mean()) for name in ("significant", "shown")}
    return found | ({"shown_relative": float(relative["shown"].mean())} if len(relative) else {})


def aligned(
    texts: Sequence[str], made: dict[str, Doubles], centre: Doubles, hidden: Doubles, gradients: Doubles
) -> pd.DataFrame:
    """The texts that lie furthest along each concept's mean vector, and those that lie least so."""
    rows = []
    moved = hidden - centre
    lengths = np.maximum(np.linalg.norm(moved, axis=1), 1e-12)
    for name, normal in made.items():
        unit = normal / max(float(np.linalg.norm(normal)), 1e-12)
        cosine, slope = moved @ unit / lengths, gradients @ unit
        order = np.argsort(-cosine, kind="stable")
        kept = order if len(order) <= 2 * _SHOWN else np.concatenate([order[:_SHOWN], order[-_SHOWN:]])
        rank = {int(i): place for place, i in enumerate(order, start=1)}
        rows += [
            {"concept": name, "rank": rank[int(i)], "text": texts[i], "alignment": cosine[i], "sensitivity": slope[i]}
            for i in kept
        ]
    return pd.DataFrame(rows)


def findings(
    table: pd.DataFrame, at: int, false: float, random_concepts: int, untrained: Mapping[str, float]
) -> list[str]:
    """What a person is told.

    Args:
        table: as :func:`corrected` gives it.
        at: the layer of metrics.
        false: share of random concepts that the test calls significant.
        random_concepts: how many there are.
        untrained: figures of an untrained network, as :func:`metrics_of` gives them.
    """
    said = []
    own = table[table["against"] == "random"]
    for name, of in own.groupby("concept", sort=False):
        weak = of.loc[of["score"].isna(), "layer"].tolist()
        if weak:
            said.append(
                f"{name}: layers {weak} do not tell it from random texts (accuracy under {ACCURATE}); no score."
            )
        here = of[of["layer"] == at].iloc[0]
        if np.isnan(here["score"]):
            continue
        figures = f"score {here['score']:.2f}, random vectors {here['random']:.2f}, corrected p {here['p_holm']:.2g}, "
        figures += f"{here['beyond']:.1%} of random concepts and itself as steep"
        if here["shown"]:
            way = "towards" if here["score"] > here["random"] else "away from"
            said.append(f"{name}, layer {at}: the answer moves {way} the label with it ({figures}).")
        else:
            said.append(f"{name}, layer {at}: no effect shown ({figures}), at an accuracy of {here['accuracy']:.2f}.")
    said += _of_pairs(table[(table["against"] != "random") & (table["layer"] == at)])
    said.append(
        f"The permutation test alone calls {false:.0%} of random concepts significant at {ALPHA} (layer {at}, "
        "uncorrected); an effect counts as shown only where the slopes of at most 5% of them and itself lie as far "
        "from that of random vectors."
    )
    if untrained["shown"] > 0:
        said.append(
            f"In an untrained network {untrained['shown']:.0%} of the concepts are shown too, where the answer can "
            "follow none: give more random texts, and ones that differ from the examples in nothing but the concept."
        )
    if untrained.get("shown_relative", 0) > 0:
        said.append(
            f"In an untrained network {untrained['shown_relative']:.0%} of the relative vectors are shown too: the "
            "examples of the concepts differ in more than the concepts."
        )
    if random_concepts < FEWEST_SETS:
        said.append(
            f"With {random_concepts} random concepts nothing can be shown; take at least {FEWEST_SETS} "
            "(random_concepts)."
        )
    return said


def _of_pairs(relative: pd.DataFrame) -> list[str]:
    """What parts two concepts: one sentence a pair, or how many are shown where there are many."""
    found = relative[relative["score"].notna()]
    pair = pd.Series(map(frozenset, zip(found["concept"], found["against"], strict=True)), index=found.index)
    # Of a vector and its mirror the one along which the log-odds rise.
    rising = found.assign(pair=pair).sort_values("slope", ascending=False, kind="stable").drop_duplicates("pair")
    if len(rising) > _SHOWN:
        return [f"Of {len(rising)} pairs of concepts {int(rising['shown'].sum())} are shown to move the answer."]
    return [
        f"From {row['against']} to {row['concept']}, layer {row['layer']}: "
        + ("the answer moves towards the label" if row["shown"] else "no effect shown")
        + f" (slope {row['slope']:.2g}, {row['beyond']:.1%} of random pairs and itself as steep)."
        for row in rising.sort_index().to_dict("records")
    ]
