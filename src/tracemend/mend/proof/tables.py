"""The tables of the proof as Markdown, from the stored rows alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tracemend.evaluate import Difference, holm, paired_difference, recovered_share
from tracemend.evaluate.grid import Cell
from tracemend.mend.proof.plan import ARMS, CEILING, DEFAULT_DETECTOR

KEY = ["dataset", "seed"]
DEFAULT_ARM = "default"
# Under so many draws no interval is printed; and no p: with five pairs no test that counts signs goes below 0.06.
FEWEST, FEWEST_P = 3, 6
# What a person must know to read an interval; printed under every table.
RULE = (
    "Difference: {default} minus the row, over the same draws; 95 % {how}. {tested} 'not shown': the interval's lower "
    "end is not above 0. Other figures: means over the draws of a set, then over sets."
)
_ONE_SET = "t interval over its draws"
_SETS = "t interval over the means of the {sets} sets, so of further sets like these (of one set alone: over its draws)"
_TESTED = (
    "p: two-sided, of the same t, from six draws on, Holm-adjusted over the {m} comparison{s} of this table with one."
)
_UNTESTED = "No p: no comparison has six draws."


def tables(rows: pd.DataFrame, part: str, *, default: str | None = None) -> str:
    """Every table of a part, one for each kind and rate of noise.

    Args:
        rows: :meth:`tracemend.evaluate.grid.Results.rows`.
        part: ``detection`` or ``repair``.
        default: the arm that the others are compared with; ``trace.consensus`` and ``default``.

    Returns:
        Markdown; a sentence where there are no rows.
    """
    if not len(rows):
        return f"No row of {part} is there yet."
    default = default or (DEFAULT_DETECTOR if part == "detection" else DEFAULT_ARM)
    if "detector" in rows:  # two detectors that stood in for the best other one are two arms
        known = rows["detector"].notna()
        rows = rows.assign(arm=rows["arm"].where(~known, rows["arm"] + " (" + rows["detector"].astype(str) + ")"))
    blocks = []
    for noise, rate in _kinds(rows):
        block = _of_the_default(rows[(rows["noise"] == noise) & (rows["rate"] == rate)], default)
        make = _detection if part == "detection" else _repair
        blocks.append(f"**{_title(noise, rate)}** ({_draws(block)})\n\n{make(block, default)}")
    return "\n\n".join(blocks) + "\n"


def coverage(rows: pd.DataFrame, cells: Sequence[Cell], part: str) -> str:
    """How many draws of each kind of noise are there of those that are planned, so that no table claims more.

    Args:
        rows: as in :func:`tables`, of these settings.
        cells: :func:`tracemend.mend.proof.planned`.
        part: ``detection`` or ``repair``.

    Returns:
        Markdown: for each kind and rate of noise the draws planned over all sets, those of the default that are there,
        and how many of the other arms have as many, fewer, and none.
    """
    default = DEFAULT_DETECTOR if part == "detection" else DEFAULT_ARM
    columns = ["noise", "rate", "arm", *KEY]
    wanted = pd.DataFrame([{name: cell.facts[name] for name in columns} for cell in cells], columns=columns)
    there = wanted.merge(rows[columns].drop_duplicates()) if len(rows) else wanted.head(0)
    lines = []
    for noise, rate in _kinds(wanted):
        of = wanted[(wanted["noise"] == noise) & (wanted["rate"] == rate)]
        done = there[(there["noise"] == noise) & (there["rate"] == rate)]["arm"].value_counts()
        own = int(done.get(default, 0))
        others = [int(done.get(arm, 0)) for arm in dict.fromkeys(of["arm"]) if arm != default]
        none = others.count(0)
        fewer = sum(0 < count < own for count in others)
        counts = [len(of[KEY].drop_duplicates()), own, len(others) - fewer - none, fewer, none]
        lines.append([_title(noise, rate), *map(str, counts)])
    head = ["noise", "draws planned", f"of {default}", "other arms with as many", "with fewer", "with none"]
    return _markdown(head, lines)


def _kinds(rows: pd.DataFrame) -> list[tuple[str, float]]:
    """Kinds and rates of noise, in the order of the tables."""
    order = {"none": 0, "symmetric": 1, "confusable": 2, "trolls": 3, "annotator": 4}
    kinds = rows[["noise", "rate"]].drop_duplicates()
    found = [(str(noise), float(rate)) for noise, rate in zip(kinds["noise"], kinds["rate"], strict=True)]
    return sorted(found, key=lambda kind: (order.get(kind[0], 9), kind[1]))


def _title(noise: str, rate: float) -> str:
    return {"none": "no noise", "annotator": "one annotator's vote"}.get(noise, f"{noise}, {100 * rate:g} %")


@dataclass(frozen=True)
class _Row:
    arm: str
    against: Difference | None
    adjusted: float

    @property
    def cells(self) -> tuple[str, str]:
        """The difference with its interval, and the adjusted p."""
        if self.against is None:
            return "", ""
        found = self.against
        if np.isnan(found.low):
            return f"{found.difference:+.3f} ({'one draw' if found.runs == 1 else f'{found.runs} draws'})", ""
        shown = "" if found.shown else ", not shown"
        p = "" if np.isnan(self.adjusted) else "< 0.001" if self.adjusted < 0.001 else f"{self.adjusted:.3f}"
        return f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f}){shown}", p


def _of_the_default(block: pd.DataFrame, default: str) -> pd.DataFrame:
    """The rows of draws that the default has, so that a mean stands beside means over the same or fewer draws."""
    own = block.loc[block["arm"] == default, KEY].drop_duplicates()
    return block.merge(own, on=KEY) if len(own) else block


def _detection(block: pd.DataFrame, default: str) -> str:
    mean = {str(arm): _over_sets(own, "ap") for arm, own in block.groupby("arm")}
    sets = list(dict.fromkeys(block["dataset"]))
    # A mean over other sets is no mean to stand among these.
    whole = {str(arm): own["dataset"].nunique() == len(sets) for arm, own in block.groupby("arm")}
    arms = sorted((arm for arm in mean if arm != CEILING), key=lambda arm: (not whole[arm], -mean[arm]))
    arms += [CEILING] if CEILING in mean else []
    head = ["detector", *(sets if len(sets) > 1 else []), "mean AP", "difference", "p", "AUROC", "precision", "seconds"]
    lines = []
    compared = _compared(block, arms, default, apart=(CEILING,))
    for row in compared:
        own = block[block["arm"] == row.arm]
        each = [_mean(own[own["dataset"] == name]["ap"]) for name in sets] if len(sets) > 1 else []
        name = f"**{row.arm}**" if row.arm == default else row.arm
        figures = [f"{mean[row.arm]:.3f}", *row.cells]
        figures += [_figure(own, "auroc"), _figure(own, "precision"), _figure(own, "seconds", 1)]
        if not whole[row.arm]:
            figures = ["", figures[1], *[""] * (len(figures) - 2)]
        lines.append([name, *each, *figures])
    chance = f"Chance: AP and precision {block['chance'].mean():.3f}, AUROC 0.5. "
    return "\n\n".join([_markdown(head, lines), chance + _rule(block, compared, default)])


def _repair(block: pd.DataFrame, default: str) -> str:
    arms = sorted(set(block["arm"]), key=lambda arm: (ARMS.index(arm.split(" ")[0]), arm))
    sets = list(dict.fromkeys(block["dataset"]))
    head = ["arm", *(sets if len(sets) > 1 else []), "mean AP", "difference", "p", "share recovered", "touched",
            "right", "wrong after", "loop AP", "loop / first tuning"]  # fmt: skip
    lines = []
    compared = _compared(block, arms, default, apart=("oracle",))
    for row in compared:
        own = block[block["arm"] == row.arm]
        each = [_mean(own[own["dataset"] == name]["ap"]) for name in sets] if len(sets) > 1 else []
        if "loop_seconds" in own:
            own = own.assign(cost=own["loop_seconds"] / own["tuning_seconds"])
        figures = [
            _figure(own, "acted_right", 2),
            _figure(own, "wrong_after"),
            _figure(own, "loop_ap"),
            _figure(own, "cost", 1),
        ]
        name = f"**{row.arm}**" if row.arm == default else row.arm
        touched = f"{100 * _over_sets(own, 'touched'):.1f} %"
        cells = [f"{_over_sets(own, 'ap'):.3f}", *row.cells, _share(own), touched]
        lines.append([name, *each, *cells, *figures])
    first = block.drop_duplicates(KEY)
    harm = ""
    if default in arms:
        own = block[block["arm"] == default]
        change = _paired(own["ap"].to_numpy(), own["ap_corrupted"].to_numpy(), own["dataset"])
        harm = f"Change of AP by {default}: {_Row('', change, 1.0).cells[0].removesuffix(', not shown')}. "
    for arm, own in block.groupby("arm"):
        if refused := int(own["refused"].eq(1).sum()) if "refused" in own else 0:
            harm += f"In {refused} of {len(own)} draws {arm} refused: labels that carry no signal stay as they are. "
    clean, corrupted = (_over_sets(first, f"ap_{name}") for name in ("clean", "corrupted"))
    facts = (
        f"AP after tuning on clean labels {clean:.3f}, on these {corrupted:.3f}; "
        f"{100 * first['wrong_before'].mean():.1f} % of the labels are wrong. {harm}"
        f"Share recovered: of sums, with Fieller's interval over {'sets' if len(sets) > 1 else 'draws'}. "
    )
    return "\n\n".join([_markdown(head, lines), facts + _rule(block, compared, default)])


def _compared(block: pd.DataFrame, arms: Sequence[str], default: str, *, apart: tuple[str, ...]) -> list[_Row]:
    """Each arm against the default; what is ``apart`` (it knows the truth) is compared but claims nothing."""
    found = {arm: None if arm == default or default not in arms else _against(block, default, arm) for arm in arms}
    family = [arm for arm in arms if found[arm] is not None and arm not in apart]
    adjusted = dict(zip(family, holm([_p(found[arm]) for arm in family]), strict=True))
    return [_Row(arm, found[arm], float(adjusted.get(arm, np.nan))) for arm in arms]


def _p(found: Difference | None) -> float:
    return float("nan") if found is None else found.p


def _against(block: pd.DataFrame, default: str, arm: str) -> Difference | None:
    """Default minus arm over the draws that both have."""
    both = block[block["arm"] == default].merge(block[block["arm"] == arm], on=KEY, suffixes=("", "_other"))
    both = both[both["ap"].notna() & both["ap_other"].notna()]
    return _paired(both["ap"].to_numpy(), both["ap_other"].to_numpy(), both["dataset"]) if len(both) else None


def _paired(first: np.ndarray, second: np.ndarray, sets: Iterable[str]) -> Difference:
    found = paired_difference(first, second, clusters=list(sets))
    nan = float("nan")
    # One draw or two say next to nothing of the spread.
    if found.runs < FEWEST:
        return replace(found, low=nan, high=nan, p=nan)
    return found if found.runs >= FEWEST_P else replace(found, p=nan)


def _share(own: pd.DataFrame) -> str:
    share = recovered_share(own["ap_clean"], own["ap_corrupted"], own["ap"], clusters=list(own["dataset"]))
    if np.isnan(share.share):
        return "gap within seed noise"
    return f"{share.share:.2f}" + ("" if np.isnan(share.low) else f" ({share.low:.2f} to {share.high:.2f})")


def _over_sets(own: pd.DataFrame, column: str) -> float:
    """Mean of the sets' means, so that every set counts alike."""
    return float(own.groupby("dataset")[column].mean().mean())


def _figure(own: pd.DataFrame, column: str, digits: int = 3) -> str:
    found = _over_sets(own, column) if column in own else np.nan
    return "" if np.isnan(found) else f"{found:.{digits}f}"


def _mean(values: pd.Series) -> str:
    return f"{values.mean():.3f}" if values.notna().any() else ""


def _rule(block: pd.DataFrame, compared: Sequence[_Row], default: str) -> str:
    if all(row.arm != default for row in compared):
        return f"No row of {default} is there yet, so nothing is compared."
    sets = block["dataset"].nunique()
    m = sum(not np.isnan(row.adjusted) for row in compared)
    tested = _TESTED.format(m=m, s="" if m == 1 else "s") if m else _UNTESTED
    return RULE.format(default=default, how=_SETS.format(sets=sets) if sets > 1 else _ONE_SET, tested=tested)


def _draws(block: pd.DataFrame) -> str:
    seeds = {name: block[block["dataset"] == name]["seed"].nunique() for name in dict.fromkeys(block["dataset"])}
    few, many = min(seeds.values()), max(seeds.values())
    count = f"{many} seed{'s' if many > 1 else ''}" if few == many else f"{few} to {many} seeds"
    return f"{', '.join(seeds)}; {count}" + (" each" if len(seeds) > 1 else "")


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
