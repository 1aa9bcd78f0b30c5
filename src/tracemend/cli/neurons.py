"""``tracemend neurons``: which units of a site know what, what for, and what is lost without them; with controls."""

from __future__ import annotations

from typing import Annotated

import typer

from tracemend.cli import options as o
from tracemend.cli import units as u
from tracemend.cli.grouped import grouped
from tracemend.cli.neuron_meanings import ablate, compose, correlation, explain
from tracemend.cli.probed import Common

neurons = typer.Typer(
    no_args_is_help=True, help="Rank the units of a site, and take them away; every figure with its controls."
)


@neurons.callback()
def _callback() -> None:
    """Rank the units of a site, and take them away; every figure with its controls."""


@neurons.command("gaussian")
@grouped
def gaussian(
    context: typer.Context,
    *,
    data: u.Data,
    task: u.Task = "upos",
    among: u.Among = "",
    site: u.SiteName = "blocks.1.hook_resid_post",
    sae: u.Sae = None,
    pooling: u.Pool = "mean",
    dims: Annotated[int, typer.Option(min=1, help="Units to choose.")] = 50,
    at: Annotated[int, typer.Option(min=1, help="Number of units that the figures are about.")] = 10,
    covariance: Annotated[
        u.Covariance, typer.Option(help="Mean of the posterior, or its mode, as published.")
    ] = "mean",
    search_items: Annotated[int, typer.Option(min=2, help="Training words that the choice looks at.")] = 4_000,
    train_items: u.MaxTrain = 8_000,
    test_items: u.MaxTest = 4_000,
    fewest: u.Fewest = 50,
    model: o.Model = "minilm",
    common: Common,
) -> None:
    """Choose the few units that tell most about a property, and say how many bits.

    Example:

        tracemend neurons gaussian --model minilm --data ud_ewt --task upos --out runs/upos-units
    """
    given = {
        "task": task, "among": among, "site": site, "pooling": pooling, "dims": dims, "at": at,
        "covariance": covariance, "search_items": search_items, "train_items": train_items,
        "test_items": test_items, "fewest": fewest, "seed": common.seed,
    }  # fmt: skip
    u.run_words(context, "gaussian", given, model, data, common, sae=sae)


@neurons.command("probeless")
@grouped
def probeless(
    context: typer.Context,
    *,
    data: u.Data,
    task: u.Task = "upos",
    among: u.Among = "",
    site: u.SiteName = "blocks.1.hook_resid_post",
    sae: u.Sae = None,
    pooling: u.Pool = "mean",
    sizes: u.Sizes = u.SIZES,
    at: u.At = 50,
    against: u.Against = u.AGAINST,
    train_items: u.MaxTrain = 8_000,
    test_items: u.MaxTest = 4_000,
    fewest: u.Fewest = 50,
    model: o.Model = "minilm",
    common: Common,
) -> None:
    """Rank units by the difference of class means, beside the other rankings and random units.

    Example:

        tracemend neurons probeless --model minilm --data ud_ewt --task upos --out runs/probeless
    """
    given = {
        "task": task, "among": among, "site": site, "pooling": pooling, "sizes": tuple(sizes), "at": at,
        "against": tuple(against), "train_items": train_items, "test_items": test_items, "fewest": fewest,
        "seed": common.seed,
    }  # fmt: skip
    u.run_words(context, "probeless", given, model, data, common, sae=sae)


@neurons.command("linear")
@grouped
def linear(
    context: typer.Context,
    *,
    data: u.Data,
    task: u.Task = "upos",
    among: u.Among = "",
    site: u.SiteName = "blocks.1.hook_resid_post",
    sae: u.Sae = None,
    pooling: u.Pool = "mean",
    mass: Annotated[float, typer.Option(help="Share of a label's weight that its set of units holds.")] = 0.25,
    sizes: u.Sizes = u.SIZES,
    at: u.At = 50,
    against: u.Against = u.AGAINST,
    train_items: u.MaxTrain = 8_000,
    test_items: u.MaxTest = 4_000,
    fewest: u.Fewest = 50,
    model: o.Model = "minilm",
    common: Common,
) -> None:
    """Rank units by the weights of a classifier, beside the other rankings and random units.

    Example:

        tracemend neurons linear --model minilm --data ud_ewt --task upos --out runs/linear
    """
    given = {
        "task": task, "among": among, "site": site, "pooling": pooling, "mass": mass, "sizes": tuple(sizes), "at": at,
        "against": tuple(against), "train_items": train_items, "test_items": test_items, "fewest": fewest,
        "seed": common.seed,
    }  # fmt: skip
    u.run_words(context, "linear", given, model, data, common, sae=sae)


neurons.command("ablate")(ablate)
neurons.command("compose")(compose)
neurons.command("explain")(explain)
neurons.command("correlation")(correlation)
