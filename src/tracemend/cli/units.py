"""Options that the commands on units share, and how these run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tracemend.cli.output import command_line
from tracemend.cli.probed import show_found
from tracemend.cli.progress import shown

Pooling = Literal["mean", "first", "last"]
Covariance = Literal["mean", "map"]
By = Literal["max", "min", "regression", "svcca"]
Explainer = Literal["embedded", "local", "endpoint"]
How = Literal["zero", "mean", "resample", "translate"]

Data = Annotated[
    Path, typer.Option("--data", metavar="PATH", help="A .conllu or BIO file, or a folder with train, dev and test.")
]
Task = Annotated[str, typer.Option(metavar="NAME", help="upos, deprel, ner, or a feature such as Number.")]
Among = Annotated[str, typer.Option(metavar="UPOS", help="Only words of this part of speech.")]
SiteName = Annotated[
    str,
    typer.Option("--site", metavar="SITE", help="Whose units: blocks.1.hook_resid_post, blocks.1.mlp.hook_post ..."),
]
Pool = Annotated[Pooling, typer.Option(help="Of a word's tokens.")]
MaxTrain = Annotated[int, typer.Option("--train-items", min=1, help="Most words to train on.")]
MaxTest = Annotated[int, typer.Option("--test-items", min=1, help="Most words to test on.")]
Fewest = Annotated[int, typer.Option(min=1, help="Words of training that a label must have.")]
Sizes = Annotated[list[int], typer.Option(min=1, help="A number of units; give it again for more.")]
At = Annotated[int, typer.Option(min=1, help="Number of units that the figures are about, one of the sizes.")]
Against = Annotated[list[str], typer.Option(help="linear, probeless, gaussian or average-precision; again for more.")]

Source = Annotated[
    Path | None,
    typer.Option("--data", metavar="PATH", help="A treebank; with --run labelled texts (default: those of the run)."),
]
OfRun = Annotated[Path | None, typer.Option("--run", metavar="RUN", help="A finished run: whose classifier it is.")]
LabelColumn = Annotated[
    str, typer.Option("--label", metavar="COL", help="With --run and --data: column of the labels.")
]

# Typer reads lists only; nobody writes to these.
SIZES = [1, 2, 5, 10, 20, 50]
AGAINST = ["linear", "probeless", "gaussian"]
DOSES = [1, 5, 10, 20, 50]
NONE: list[int] = []


def run_classifier(
    name: str,
    given: dict[str, Any],
    run: Path,
    data: Path | None,
    label: str,
    out: Path | None,
    *,
    json: bool,
    quiet: bool,
) -> None:
    """Run a method on the classifier of a run: on the run's own texts, or on those of a file."""
    from tracemend.data import read
    from tracemend.data.examples import read_examples
    from tracemend.neurons.run import named, neurons_run
    from tracemend.tuning.predictor import Predictor

    method = named(name, given)
    predictor = Predictor.load(run)
    labels, columns = predictor.classifier.labels, predictor.columns
    texts: Any = (
        read_examples(run)
        if data is None
        else read(str(data), text=columns["text"], reply=columns.get("reply"), label=label, label_names=labels)
    )
    folder = out or Path("runs") / f"neurons-{name}-{run.name}"
    with shown(quiet) as progress:
        found = neurons_run(
            method, predictor.classifier, texts, out=folder, data_name=run.name if data is None else data.name,
            command_line=command_line(), progress=progress,
        )  # fmt: skip
    show_found(found, folder, json=json)


def run_words(
    name: str, given: dict[str, Any], model: str, source: Path, out: Path | None, *, json: bool, quiet: bool
) -> tuple[Any, Path]:
    """Run a method on a model and a treebank; the result, and the folder that keeps it."""
    from tracemend.data import read_treebank
    from tracemend.models import load
    from tracemend.neurons.run import named, neurons_run

    method = named(name, given)
    folder = out or Path("runs") / f"neurons-{name}-{source.name.split('.')[0]}"
    bank = read_treebank(source)
    with shown(quiet) as progress:
        found = neurons_run(
            method, load(model), bank, out=folder, data_name=source.name, command_line=command_line(),
            progress=progress,
        )  # fmt: skip
    show_found(found, folder, json=json)
    return found, folder
