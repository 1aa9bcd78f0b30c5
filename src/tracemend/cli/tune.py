"""``tracemend tune``: tune one adapter, and no more."""

from __future__ import annotations

from tracemend.cli import options as o
from tracemend.cli.grouped import grouped
from tracemend.cli.labelled import StoppedTuning, TrueData
from tracemend.cli.output import command_line, person, print_files, print_notes, print_result, print_table
from tracemend.cli.progress import shown


@grouped
def tune(
    *,
    data: TrueData,
    model: o.Model = "minilm",
    tuning: StoppedTuning,
    out: o.Out = None,
    seed: o.Seed = 0,
    resume: o.Resume = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Tune an adapter that classifies text, and measure it beside two controls.

    Example:

        tracemend tune comments.csv --text text --label is_toxic --adapter lora --out runs/tuned
    """
    splits = data.splits(seed=seed, quiet=quiet)
    import pandas as pd

    from tracemend.mend.job import tuned_as
    from tracemend.models import load
    from tracemend.tuning import Tuning
    from tracemend.tuning.run import tune_run

    folder = o.run_directory(out, data.file)
    with shown(quiet) as progress:
        result = tune_run(
            load(model),
            splits,
            tuned_as(Tuning(), seed=seed, **tuning.choices),
            out=folder,
            columns=data.columns,
            name=data.name,
            command_line=command_line(),
            checked=data.checked,
            progress=progress,
        )
    console = person(json=json)
    controls = result["controls"]
    rows = [
        {"figure": figure, result["model"]["adapter"]: value, **{c: f[figure] for c, f in controls.items()}}
        for figure, value in result["metrics"].items()
        if figure in next(iter(controls.values()))
    ]
    several = len(result["data"]["labels"]) > 2
    what = "ap as the mean over all labels" if several else f"positive label {result['data']['positive']}"
    console.print(f"On the {result['judged_on']} part, {what}:", markup=False)
    print_table(console, pd.DataFrame(rows))
    print_notes(console, result["notes"])
    print_files(console, {"result": folder / "result.json"})
    if json:
        print_result(folder)
