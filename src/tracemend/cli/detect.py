"""``tracemend detect``: rank the training labels by how suspicious they are."""

from __future__ import annotations

from typing import Annotated

import typer

from tracemend.cli import options as o
from tracemend.cli.grouped import grouped
from tracemend.cli.labelled import StoppedTuning, TrueData
from tracemend.cli.next_step import next_options, print_next
from tracemend.cli.output import (
    command_line,
    person,
    print_files,
    print_lines,
    print_notes,
    print_result,
    print_table,
)
from tracemend.cli.progress import shown

SHOWN = 15
_MEANINGS = {
    "denied": "of the most suspicious tenth, the share whose label the classifier does not predict",
    "detection_ap": "average precision of the ranking for wrong labels",
    "detection_auroc": "chance that a wrong label ranks above a right one",
    "precision_at_k": "wrong ones among as many of the first as labels are wrong",
    "brier": "mean squared error of the probability (random: the true share for every label)",
}


@grouped
def detect(
    *,
    data: TrueData,
    model: o.Model = "minilm",
    tuning: StoppedTuning,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A detector: trace.aum, trace.gbair, ... (tracemend methods); else what repair decides by: "
            "trace.consensus with --valid or --truth, and trace.others-labels, which trusts no label, without.",
        ),
    ] = None,
    out: o.Out = None,
    seed: o.Seed = 0,
    resume: o.Resume = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Rank the training labels by suspicion, and change nothing.

    Writes suspects.csv, the most suspicious first. With one FILE its training part is ranked; give --valid to rank all
    of it. Without --valid or --truth no label is trusted: the column probability stays empty, since labels out of the
    same column cannot say how often it errs. With --truth the ranking is measured, beside a random order.

    Example:

        tracemend detect comments.csv --text text --label is_toxic --out runs/suspects
    """
    splits = data.splits(seed=seed, quiet=quiet)
    import pandas as pd

    from tracemend.mend.job import tuned_as
    from tracemend.mend.repaired import remember_names
    from tracemend.models import load
    from tracemend.trace.run import detect_run, detector
    from tracemend.tuning import Tuning

    folder = o.run_directory(out, data.file)
    chosen = detector(method or ("trace.consensus" if data.checked else "trace.others-labels"), seed=seed)
    with shown(quiet) as progress:
        result = detect_run(
            load(model),
            splits,
            chosen,
            tuned_as(Tuning(), seed=seed, **tuning.choices),
            out=folder,
            columns=data.columns,
            name=data.name,
            trusted=data.valid is not None or splits.train.has_truth,
            command_line=command_line(),
            progress=progress,
        )
    remember_names(folder, data.roles)
    console = person(json=json)
    suspects = pd.read_parquet(folder / "suspects.parquet").head(SHOWN)
    print_table(
        console, suspects.drop(columns=["uid", "evidence"]).dropna(axis=1, how="all"), shorten=("text", "reply")
    )
    figures = result["metrics"]
    rows = [{"figure": n, chosen.name: v, "random order": result["controls"].get(n)} for n, v in figures.items()]
    console.print()
    print_table(console, pd.DataFrame(rows).dropna(axis=1, how="all"))
    print_lines(console, [f"{name}: {_MEANINGS[name]}" for name in figures if name in _MEANINGS])
    console.print()
    print_notes(console, result["notes"])
    print_files(console, {"suspects": folder / "suspects.csv"})
    print_next(
        console, data, {**next_options(model, seed), **tuning.choices}, rows=sum(map(len, splits.parts.values())),
        out=folder.with_name(f"{folder.name}-repaired"),
        first="read the first rows of suspects.csv, then " if suspects["suggested"].notna().any() else "",
    )  # fmt: skip
    if json:
        print_result(folder)
