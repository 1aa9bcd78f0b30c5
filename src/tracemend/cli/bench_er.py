"""``tracemend bench er``: classifiers off the data they were tuned on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracemend.cli import options as o
from tracemend.cli.output import command_line, person, print_notes, print_result, print_run, print_table
from tracemend.cli.progress import shown

if TYPE_CHECKING:
    import pandas as pd

    from tracemend.evaluate import Axes

_AXES, _SHOWN = "Axes", 60


def er(
    run: Annotated[
        list[Path], typer.Option(metavar="RUN", help="A finished run; again for each seed.", show_default=False)
    ],
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="A run of the other arm; again, the same seeds in the same order."),
    ] = None,
    unseen: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE|NAME", help="A labelled file, or a reference set by name; again for more.",
                     rich_help_panel=_AXES),
    ] = None,
    text: Annotated[str, typer.Option(metavar="COL", help="Of unseen files.", rich_help_panel=_AXES)] = "text",
    label: Annotated[str, typer.Option(metavar="COL", help="Of unseen files.", rich_help_panel=_AXES)] = "label",
    contrast: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder with test_original.tsv and test_contrast.tsv (imdb_contrast).",
                     rich_help_panel=_AXES),
    ] = None,
    tests: Annotated[
        Path | None,
        typer.Option(metavar="FILE|DIR", help="Functional tests: cases.jsonl, or the folder of checklist_sentiment.",
                     rich_help_panel=_AXES),
    ] = None,
    most: Annotated[
        int | None, typer.Option(min=1, help="Cases of each functional test, at most.", rich_help_panel=_AXES)
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the tables are kept.")] = Path("runs/er-test"),
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:  # fmt: skip
    """Test classifiers on unseen sets, contrast sets and functional tests, with controls; compare two arms of runs.

    Example:

        tracemend bench er --run runs/er-0 --run runs/er-1 --run runs/er-2 --against runs/plain-0 --against runs/plain-1
        --against runs/plain-2 --unseen uci_sentiment_sentences --tests data/checklist_sentiment
    """
    import time

    import pandas as pd

    from tracemend.evaluate import ErTest, compared, er_test
    from tracemend.methods import MethodResult
    from tracemend.runs import RunDirectory, atomic, fingerprint, write_csv
    from tracemend.tuning.predictor import Predictor

    other = against or []
    classifiers = _identities(run, other)
    axes = _axes(unseen or [], text, label, contrast, tests, most, seed)
    config = {"runs": [str(p) for p in run], "against": [str(p) for p in other], "unseen": unseen or [], "text": text,
              "label": label, "contrast": str(contrast), "tests": str(tests), "most": most, "seed": seed}  # fmt: skip
    prints = {"model": fingerprint(classifiers), "data": axes.fingerprint}
    directory = RunDirectory(out, command="bench er", config=config, fingerprints=prints)
    began = time.perf_counter()
    if directory.result is None:
        found: list[ErTest] = []
        with shown(quiet) as progress:
            for folder in (*run, *other):
                predictor = Predictor.load(folder)
                found.append(
                    er_test(predictor.probabilities, predictor.classifier.labels, axes, seed=seed, progress=progress)
                )
        named = [one.rows.assign(run=str(p)) for one, p in zip(found, (*run, *other), strict=True)]
        rows = pd.concat(named, ignore_index=True)
        gap = compared(found[: len(run)], found[len(run) :]) if other else None
        tables = {"rows": rows} if gap is None else {"rows": rows, "compared": gap}
        for name, table in tables.items():
            write_csv(out / f"{name}.csv", table)
        arm = rows[rows["run"].isin([str(p) for p in run])].groupby(["axis", "set", "figure"], sort=False)
        keys = {" / ".join(map(str, place)): of for place, of in arm}
        controls = {
            name: {key: float(of[name].mean()) for key, of in keys.items()} for name in ("shuffled", "constant")
        }
        kept = MethodResult(
            metrics={key: float(of["value"].mean()) for key, of in keys.items()},
            controls=controls,
            config={"method": "bench.er-test", **config},
            rows=rows if gap is None else gap,
            findings=[*found[0].notes, *([] if gap is None else [_said(gap, len(run))])],
        )
        kept.save(out)
        with atomic(out / "figure.svg", "wb") as file:
            kept.figure().savefig(file, format="svg", metadata={"Date": None})
        directory.finish(
            metrics=kept.metrics,
            controls=controls,
            seconds=time.perf_counter() - began,
            notes=list(kept.findings),
            command_line=command_line(),
            summary="Classifiers off the data they were tuned on, beside shuffled and constant answers.",
        )
    console = person(json=json)
    # What a window is wide enough for: means over the runs of a side, and no bounds of single runs. The files have all.
    every = pd.read_csv(out / "rows.csv")
    means = (
        every[every["run"].isin([str(p) for p in run])]
        .groupby(["axis", "set", "figure"], sort=False)[["value", "shuffled", "constant"]]
        .mean()
        .reset_index()
    )
    print_table(console, means.head(_SHOWN))
    if (out / "compared.csv").exists():
        console.print()
        gap = pd.read_csv(out / "compared.csv").drop(columns=["axis", "sd_first", "sd_second", "p"])
        print_table(console, gap.head(_SHOWN))
    result = directory.result or {}
    print_notes(console, list(result.get("notes", [])))
    print_run(console, out)
    if json:
        print_result(out)


def _axes(
    unseen: list[str], text: str, label: str, contrast: Path | None, tests: Path | None, most: int | None, seed: int
) -> Axes:
    from tracemend.data import REFERENCES, checklist, read, read_contrasts, read_functional, reference, thinned
    from tracemend.evaluate import Axes

    sets = {
        shown: reference(name) if name in REFERENCES else read(name, text=text, label=label)
        for shown, name in zip(_names(unseen), unseen, strict=True)
    }
    pairs = {}
    if contrast is not None:
        pairs[contrast.resolve().name] = read_contrasts(contrast / "test_original.tsv", contrast / "test_contrast.tsv")
    suite = [] if tests is None else checklist(tests) if tests.is_dir() else read_functional(tests)
    if most is not None:
        suite = thinned(suite, most, seed=seed)
    return Axes(unseen=sets, contrast=pairs, functional=suite)


def _names(unseen: Sequence[str]) -> list[str]:
    """What each set is called: the name of its file, with as much of the path before it as tells it from others."""
    from tracemend.errors import RunError

    places = [Path(name).resolve() for name in unseen]
    twice = [name for i, name in enumerate(unseen) if places[i] in places[:i]]
    if twice:
        raise RunError(f"--unseen {twice[0]} is given twice; give each set once.")

    def called(place: Path) -> str:
        own = place.parts
        for size in range(1, len(own) + 1):
            if sum(other.parts[-size:] == own[-size:] for other in places) == 1:
                return "/".join(own[-size:])
        return str(place)

    return [called(place) for place in places]


def _identities(run: Sequence[Path], other: Sequence[Path]) -> list[str]:
    """Fingerprints of all classifiers, after a look at whether the two sides can be paired."""
    from tracemend.errors import RunError
    from tracemend.tuning.predictor import identity_of

    if other and len(other) != len(run):
        raise RunError(
            f"{len(run)} runs against {len(other)}: they are compared seed by seed; give as many --against as --run."
        )
    for option, side in (("--run", run), ("--against", other)):
        places = [p.resolve() for p in side]
        twice = [p for i, p in enumerate(side) if places[i] in places[:i]]
        if twice:
            raise RunError(f"{option} {twice[0]} is given twice; one run is one seed.")
    known = [identity_of(p) for p in (*run, *other)]
    for one, two, (_, seed), (_, beside) in zip(run, other, known, known[len(run) :], strict=False):
        if seed != beside:
            raise RunError(
                f"{one} was tuned under seed {seed}, {two} beside it under seed {beside}, but they are compared seed "
                "by seed; give --against the same seeds in the same order."
            )
    return [print_ for print_, _ in known]


def _said(gap: pd.DataFrame, seeds: int) -> str:
    """What the comparison shows, in a sentence."""
    shown = {way: gap[gap["verdict"] == way] for way in ("better", "worse")}
    named = [f"{way} in {', '.join(of['set'] + ' / ' + of['figure'])}" for way, of in shown.items() if len(of)]
    told = f"The runs are {' and '.join(named)}" if named else "No effect is shown"
    return f"{told}: {len(gap)} figures over {seeds} seed{'s' * (seeds > 1)}, Holm-corrected."
