"""``tracemend neurons``: which units of a site know a property of words, with the controls beside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tracemend.cli import options as o
from tracemend.cli.output import command_line
from tracemend.cli.probed import show_found
from tracemend.cli.progress import shown

Pooling = Literal["mean", "first", "last"]
Covariance = Literal["mean", "map"]

neurons = typer.Typer(
    no_args_is_help=True, help="Rank the units of a site by what they know; every figure with its controls."
)

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


@neurons.callback()
def _callback() -> None:
    """Rank the units of a site by what they know; every figure with its controls."""


# Typer reads lists only; nobody writes to these.
_SIZES = [1, 2, 5, 10, 20, 50]
_AGAINST = ["linear", "probeless", "gaussian"]


@neurons.command("gaussian")
def gaussian(
    data: Data,
    task: Task = "upos",
    among: Among = "",
    site: SiteName = "blocks.1.hook_resid_post",
    pooling: Pool = "mean",
    dims: Annotated[int, typer.Option(min=1, help="Units to choose.")] = 50,
    at: Annotated[int, typer.Option(min=1, help="Number of units that the figures are about.")] = 10,
    covariance: Annotated[Covariance, typer.Option(help="Mean of the posterior, or its mode, as published.")] = "mean",
    search_items: Annotated[int, typer.Option(min=2, help="Training words that the choice looks at.")] = 4_000,
    train_items: MaxTrain = 8_000,
    test_items: MaxTest = 4_000,
    fewest: Fewest = 50,
    model: o.Model = "minilm",
    out: o.Out = None,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Choose the few units that tell most about a property, and say how many bits.

    Example:

        tracemend neurons gaussian --model minilm --data ud_ewt --task upos --out runs/upos-units
    """
    given = {
        "task": task, "among": among, "site": site, "pooling": pooling, "dims": dims, "at": at,
        "covariance": covariance, "search_items": search_items, "train_items": train_items,
        "test_items": test_items, "fewest": fewest, "seed": seed,
    }  # fmt: skip
    _run("gaussian", given, model, data, out, json=json, quiet=quiet)


@neurons.command("probeless")
def probeless(
    data: Data,
    task: Task = "upos",
    among: Among = "",
    site: SiteName = "blocks.1.hook_resid_post",
    pooling: Pool = "mean",
    sizes: Sizes = _SIZES,
    at: At = 50,
    against: Against = _AGAINST,
    train_items: MaxTrain = 8_000,
    test_items: MaxTest = 4_000,
    fewest: Fewest = 50,
    model: o.Model = "minilm",
    out: o.Out = None,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Rank units by the difference of class means, beside the other rankings and random units.

    Example:

        tracemend neurons probeless --model minilm --data ud_ewt --task upos --out runs/probeless
    """
    given = {
        "task": task, "among": among, "site": site, "pooling": pooling, "sizes": tuple(sizes), "at": at,
        "against": tuple(against), "train_items": train_items, "test_items": test_items, "fewest": fewest, "seed": seed,
    }  # fmt: skip
    _run("probeless", given, model, data, out, json=json, quiet=quiet)


@neurons.command("linear")
def linear(
    data: Data,
    task: Task = "upos",
    among: Among = "",
    site: SiteName = "blocks.1.hook_resid_post",
    pooling: Pool = "mean",
    mass: Annotated[float, typer.Option(help="Share of a label's weight that its set of units holds.")] = 0.25,
    sizes: Sizes = _SIZES,
    at: At = 50,
    against: Against = _AGAINST,
    train_items: MaxTrain = 8_000,
    test_items: MaxTest = 4_000,
    fewest: Fewest = 50,
    model: o.Model = "minilm",
    out: o.Out = None,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Rank units by the weights of a classifier, beside the other rankings and random units.

    Example:

        tracemend neurons linear --model minilm --data ud_ewt --task upos --out runs/linear
    """
    given = {
        "task": task, "among": among, "site": site, "pooling": pooling, "mass": mass, "sizes": tuple(sizes), "at": at,
        "against": tuple(against), "train_items": train_items, "test_items": test_items, "fewest": fewest, "seed": seed,
    }  # fmt: skip
    _run("linear", given, model, data, out, json=json, quiet=quiet)


def _run(
    name: str, given: dict[str, Any], model: str, source: Path, out: Path | None, *, json: bool, quiet: bool
) -> None:
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
