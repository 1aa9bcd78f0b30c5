"""Tables from made-up rows: every figure can be told from the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tracemend.mend.proof import planned
from tracemend.mend.proof.tables import coverage, tables


def detection(**ap: list[float]) -> pd.DataFrame:
    """Rows of two sets, each with half of an arm's AP."""
    return pd.DataFrame(
        [
            {"dataset": "ab"[2 * i // len(values)], "noise": "symmetric", "rate": 0.3,
             "seed": i % (len(values) // 2), "arm": arm.replace("_", "."),
             "ap": value, "auroc": value, "precision": value, "chance": 0.3, "seconds": 2.0}
            for arm, values in ap.items() for i, value in enumerate(values)
        ]
    )  # fmt: skip


def repair(noise: str = "symmetric", **ap: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"dataset": "a", "noise": noise, "rate": 0.3, "seed": i, "arm": arm.replace("_", "-"), "ap": value,
             "ap_clean": 0.9 + 0.001 * i, "ap_corrupted": 0.7, "acted": 10, "acted_right": 0.8, "touched": 0.02,
             "wrong_before": 0.3, "wrong_after": 0.1, "tuning_seconds": 2.0,
             **({"loop_ap": 0.85, "loop_seconds": 5.0} if arm == "default" else {}),
             **({"detector": "trace.em"} if arm == "best_other" else {})}
            for arm, values in ap.items() for i, value in enumerate(values)
        ]
    )  # fmt: skip


def cells(text: str, arm: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith((f"| {arm} |", f"| **{arm}** |")))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_detection_names_means_differences_and_chance():
    rows = detection(
        trace_consensus=[0.8, 0.82, 0.6, 0.62], trace_loss=[0.6, 0.63, 0.4, 0.41], trace_em=[0.8, 0.8, 0.65, 0.6],
        ceiling=[0.9, 0.9, 0.9, 0.9],
    )  # fmt: skip
    text = tables(rows, "detection")
    assert "**symmetric, 30 %** (a, b; 2 seeds each)" in text
    assert cells(text, "trace.consensus")[1:4] == ["0.810", "0.610", "0.710"]
    mine = cells(text, "trace.loss")
    assert (
        mine[3] == "0.510" and mine[4].startswith("+0.200 (+0.1") and "not shown" not in mine[4]
    )  # by the sets' means
    assert "not shown" in cells(text, "trace.em")[4]
    assert text.splitlines()[-1].startswith("Chance: AP and precision 0.300")
    assert "95 % t interval over the means of the 2 sets" in text and "resample" not in text
    order = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert order[-1] == "ceiling"


def test_holm_makes_p_larger_with_more_rivals():
    rng = np.random.default_rng(0)
    base = {
        "trace_consensus": (0.8 + rng.normal(0, 0.02, 8)).tolist(),
        "trace_loss": (0.77 + rng.normal(0, 0.02, 8)).tolist(),
    }
    text = tables(detection(**base, ceiling=[0.9] * 8), "detection")
    assert "over the 1 comparison of this table" in text  # the ceiling knows the truth and is no rival
    few = float(cells(text, "trace.loss")[5].replace("<", ""))
    more = {f"trace_x{i}": (0.77 + rng.normal(0, 0.02, 8)).tolist() for i in range(6)}
    many = float(cells(tables(detection(**base, **more), "detection"), "trace.loss")[5].replace("<", ""))
    assert many >= few


def test_few_draws_have_an_interval_and_no_p():
    text = tables(detection(trace_consensus=[0.8, 0.9, 0.8, 0.85], trace_loss=[0.7, 0.8, 0.71, 0.7]), "detection")
    assert "to" in cells(text, "trace.loss")[4] and not cells(text, "trace.loss")[5]
    assert "No p: no comparison has six draws." in text and "Holm" not in text and "below" not in text


def test_only_comparisons_with_a_p_are_counted():
    rows = detection(trace_consensus=[0.8, 0.9] * 4, trace_loss=[0.7, 0.6] * 4, trace_em=[0.7, 0.8] * 4)
    rows = rows[(rows["arm"] != "trace.em") | (rows["seed"] < 2)]  # four draws, too few for a p
    text = tables(rows, "detection")
    assert "Holm-adjusted over the 1 comparison of this table" in text
    assert not cells(text, "trace.em")[5] and cells(text, "trace.loss")[5]


def test_intervals_over_sets_go_by_the_means_of_the_sets():
    rng = np.random.default_rng(0)
    rows = detection(trace_consensus=(0.8 + rng.normal(0, 0.001, 20)).tolist(), trace_loss=[0.6] * 10 + [0.7] * 10)
    assert cells(tables(rows, "detection"), "trace.loss")[4].endswith("not shown")  # +0.2 and +0.1: two sets are few
    one = rows[rows["dataset"] == "a"]
    assert "not shown" not in cells(tables(one, "detection"), "trace.loss")[2]


def test_every_figure_counts_sets_alike():
    rows = detection(trace_consensus=[0.9, 0.9, 0.5, 0.5], trace_loss=[0.9, 0.9, 0.5, 0.5])
    rows = rows[~((rows["dataset"] == "b") & (rows["seed"] == 1))]  # two draws of a, one of b
    assert [cells(tables(rows, "detection"), "trace.loss")[i] for i in (3, 6, 7)] == ["0.700"] * 3


def test_without_the_default_nothing_is_compared():
    text = tables(detection(trace_loss=[0.6, 0.6, 0.4, 0.4]), "detection")
    assert "No row of trace.consensus is there yet" in text and cells(text, "trace.loss")[4] == ""
    named = tables(detection(trace_loss=[0.6] * 4, trace_em=[0.5] * 4), "detection", default="trace.loss")
    assert cells(named, "trace.em")[4].startswith("+0.100")


def test_only_draws_that_both_have_are_compared():
    rows = detection(trace_consensus=[0.8, 0.8, 0.8, 0.8], trace_loss=[0.7, 0.7, 0.7, 0.7])
    rows = rows[~((rows["arm"] == "trace.consensus") & (rows["dataset"] == "b"))]
    text = tables(rows, "detection")
    assert cells(text, "trace.loss")[2].startswith("+0.100") and "(a; 2 seeds)" in text
    single = rows[(rows["dataset"] == "a") & (rows["seed"] == 0)]
    assert "(one draw)" in cells(tables(single, "detection"), "trace.loss")[2]


def test_what_lacks_a_set_has_no_mean_among_those_that_do_not():
    rows = detection(trace_consensus=[0.8, 0.8, 0.4, 0.4], trace_loss=[0.7] * 4, trace_em=[0.3] * 4)
    text = tables(rows[~((rows["arm"] == "trace.loss") & (rows["dataset"] == "b"))], "detection")
    assert cells(text, "trace.loss")[1:4] == ["0.700", "", ""] and cells(text, "trace.loss")[6:] == ["", "", ""]
    assert cells(text, "trace.em")[3] == "0.300" and text.index("trace.em") < text.index("trace.loss")


def test_repair_names_share_touched_and_the_cost_of_the_loop():
    arms = {
        "default": [0.85, 0.86, 0.87],
        "nothing": [0.7, 0.7, 0.7],
        "random": [0.68, 0.7, 0.69],
        "oracle": [0.9, 0.9, 0.9],
        "best_other": [0.85, 0.84, 0.83],
    }
    rows = repair(**arms)
    text = tables(rows, "repair")
    default = cells(text, "default")
    assert default[1] == "0.860" and default[4].startswith("0.80 (") and default[5] == "2.0 %" and default[-1] == "2.5"
    assert cells(text, "nothing")[4].startswith("0.00")
    assert "best-other (trace.em)" in text
    assert "AP after tuning on clean labels 0.901, on these 0.700; 30.0 % of the labels are wrong" in text
    assert "Change of AP by default: +0.160" in text and "Fieller's interval over draws" in text
    assert "No p" in text  # of three draws
    six = tables(repair(**{arm: ap * 2 for arm, ap in arms.items()}), "repair")
    assert "over the 3 comparisons" in six  # not the oracle
    assert "95 % t interval over its draws" in text  # one set
    assert cells(text, "nothing")[2] == "+0.160 (+0.135 to +0.185)"


def test_harmless_and_harmful_are_told_at_no_noise():
    rows = repair("none", default=[0.69, 0.71, 0.70], nothing=[0.7, 0.7, 0.7]).assign(rate=0.0, ap_clean=0.7)
    text = tables(rows, "repair")
    assert (
        text.startswith("**no noise**")
        and "gap within seed noise" in text
        and "Change of AP by default: +0.000 (-0.0" in text
    )


def test_kinds_stand_in_one_order_and_no_rows_are_said():
    rows = pd.concat(
        [repair("annotator", nothing=[0.7]), repair("symmetric", nothing=[0.7]), repair("none", nothing=[0.7])]
    )
    text = tables(rows, "repair")
    assert [line for line in text.splitlines() if line.startswith("**")] == [
        "**no noise** (a; 1 seed)",
        "**symmetric, 30 %** (a; 1 seed)",
        "**one annotator's vote** (a; 1 seed)",
    ]
    assert tables(rows.head(0), "repair") == "No row of repair is there yet."


@pytest.mark.parametrize("part", ["detection", "repair"])
def test_every_line_of_a_table_has_as_many_cells(part):
    rows = (
        detection(trace_loss=[0.5] * 4, trace_consensus=[0.6] * 4) if part == "detection" else repair(default=[0.5] * 2)
    )
    lines = [line for line in tables(rows, part).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1


def test_coverage_says_what_is_there_of_what_is_planned():
    arms = ["trace.consensus", "trace.loss", "trace.em", "trace.aum"]
    plan = planned("detection", sets=["sst2", "surge-toxicity"], arms=arms, noises=["symmetric"], rates=[0.3, 0.1])
    rows = detection(trace_consensus=[0.8] * 4, trace_loss=[0.7] * 4, trace_em=[0.7] * 2, trace_random=[0.3] * 30)
    rows["dataset"] = rows["dataset"].map({"a": "sst2", "b": "surge-toxicity"})
    text = coverage(rows, plan, "detection")
    # Of ten seeds on two sets two each are there; one detector has fewer, one none; what was not planned is left out.
    assert cells(text, "symmetric, 30 %")[1:] == ["20", "4", "1", "1", "1"]
    assert cells(text, "symmetric, 10 %")[1:] == ["6", "0", "0", "0", "3"]
    assert cells(coverage(rows.head(0), plan, "detection"), "symmetric, 30 %")[1:] == ["20", "0", "0", "0", "3"]
