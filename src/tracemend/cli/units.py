"""Options that the commands on units share, and how these run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tracemend.cli.output import command_line
from tracemend.cli.probed import Common, run_shown
from tracemend.errors import NeuronError

if TYPE_CHECKING:
    from torch import nn

    from tracemend.models import LanguageModel

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
GroupColumn = Annotated[
    str | None,
    typer.Option(
        "--group", metavar="COL", help="With --run and --data: column of author or the like; none in both halves."
    ),
]
Sae = Annotated[
    Path | None,
    typer.Option(
        "--sae", metavar="FOLDER", help="Units are features of this autoencoder (sae in a run of circuits features)."
    ),
]

# Typer reads lists only; nobody writes to these.
SIZES = [1, 2, 5, 10, 20, 50]
AGAINST = ["linear", "probeless", "gaussian"]
DOSES = [1, 5, 10, 20, 50]
NONE: list[int] = []


def was_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter stood on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def refuse(context: typer.Context, names: Sequence[str], why: str) -> None:
    """Refuse options that were given and would not be looked at.

    Raises:
        NeuronError: there is one.
    """
    found = [f"--{name.replace('_', '-')}" for name in names if was_given(context, name)]
    if found:
        raise NeuronError(
            f"{', '.join(found)} would do nothing {why}; leave {'it' if len(found) == 1 else 'them'} out."
        )


def site_of(context: typer.Context, sae: Path | None, site: str, network: LanguageModel | nn.Module) -> str:
    """The site whose units are meant: as it was given, or the features of an autoencoder, made a site of the network.

    Raises:
        NeuronError: an autoencoder of another site than the one given, or one that names none where none is given.
        TracemendError: the folder holds no autoencoder, or the network has no such site.
    """
    if sae is None:
        return site
    from tracemend.circuits import SparseAutoencoder
    from tracemend.models.features import register_features

    code = SparseAutoencoder.read(sae)
    chosen = site if was_given(context, "site") else code.site
    if not chosen:
        raise NeuronError(f"{sae} does not say whose activations it was trained on; give --site as well.")
    if code.site and chosen != code.site:
        raise NeuronError(f"{sae} was trained on {code.site}, and --site is {chosen}; leave --site out.")
    return register_features(network, chosen, code)


def run_classifier(
    context: typer.Context,
    name: str,
    given: dict[str, Any],
    run: Path,
    data: Path | None,
    label: str,
    common: Common,
    *,
    group: str | None = None,
    sae: Path | None = None,
) -> None:
    """Run a method on the classifier of a run: on the run's own texts, or on those of a file."""
    from tracemend.data import read
    from tracemend.data.examples import read_examples
    from tracemend.neurons.run import named, neurons_run
    from tracemend.tuning.predictor import Predictor

    named(name, given)  # what is wrong with the options is said before anything is loaded
    predictor = Predictor.load(run)
    method = named(name, given | {"site": site_of(context, sae, given["site"], predictor.classifier.network)})
    labels, columns = predictor.classifier.labels, predictor.columns
    texts: Any = (
        read_examples(run)
        if data is None
        else read(
            str(data), text=columns["text"], reply=columns.get("reply"), label=label, group=group, label_names=labels
        )
    )
    data_name = run.name if data is None else data.name
    run_shown(
        common,
        f"neurons-{name}-{run.name}",
        lambda folder, progress: neurons_run(
            method, predictor.classifier, texts, out=folder, data_name=data_name, command_line=command_line(),
            progress=progress,
        ),
    )  # fmt: skip


def run_words(
    context: typer.Context,
    name: str,
    given: dict[str, Any],
    model: str,
    source: Path,
    common: Common,
    *,
    sae: Path | None = None,
) -> tuple[Any, Path]:
    """Run a method on a model and a treebank; the result, and the folder that keeps it."""
    from tracemend.data import read_treebank
    from tracemend.models import load
    from tracemend.neurons.run import named, neurons_run

    named(name, given)  # what is wrong with the options is said before anything is loaded
    bank = read_treebank(source)
    loaded = load(model)
    method = named(name, given | {"site": site_of(context, sae, given["site"], loaded)})
    return run_shown(
        common,
        f"neurons-{name}-{source.name.split('.')[0]}",
        lambda folder, progress: neurons_run(
            method, loaded, bank, out=folder, data_name=source.name, command_line=command_line(), progress=progress
        ),
    )
