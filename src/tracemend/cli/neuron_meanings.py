"""The ``tracemend neurons`` commands that ask what units are for: ablation, correlation, formulas, words."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tracemend.cli import options as o
from tracemend.cli import units as u
from tracemend.cli.grouped import grouped
from tracemend.cli.output import person, print_files
from tracemend.cli.probed import Common
from tracemend.errors import NeuronError

# Options of ablate that are about words of a treebank.
_OF_WORDS = (
    "order", "read", "sentences", "task", "among", "pooling", "train_items", "test_items", "fewest",
)  # fmt: skip


@grouped
def ablate(
    context: typer.Context,
    *,
    data: u.Source = None,
    run: u.OfRun = None,
    label: u.LabelColumn = "label",
    group: u.GroupColumn = None,
    site: u.SiteName = "blocks.1.mlp.hook_post",
    sae: u.Sae = None,
    how: Annotated[u.How, typer.Option(help="Zero, mean, resample, or translate to another label.")] = "mean",
    units: Annotated[list[int], typer.Option(min=0, help="A unit to take before all others; again for more.")] = u.NONE,
    sizes: u.Sizes = u.DOSES,
    at: u.At = 50,
    draws: Annotated[int, typer.Option(min=1, help="Random sets, the control.")] = 3,
    beta: Annotated[float, typer.Option(help="Step of a translation, in differences of means.")] = 8.0,
    texts: Annotated[int, typer.Option(min=1, help="With --run: most texts to weigh units by, and to measure.")] = 400,
    batch_size: Annotated[int, typer.Option(min=1, help="With --run: texts of a pass.")] = 32,
    order: Annotated[str, typer.Option(metavar="NAME", help="Without --run: a ranking.")] = "linear",
    read: Annotated[str, typer.Option(metavar="SITE", help="Without --run: what is read (default: --site).")] = "",
    sentences: Annotated[int, typer.Option(min=1, help="Without --run: for the loss of a decoder's words.")] = 40,
    task: u.Task = "upos",
    among: u.Among = "",
    pooling: u.Pool = "mean",
    train_items: u.MaxTrain = 8_000,
    test_items: u.MaxTest = 4_000,
    fewest: u.Fewest = 50,
    model: o.Model = "minilm",
    common: Common,
) -> None:
    """Take units away: what a property of words, or a tuned classifier, loses; beside random and last units.

    Example:

        tracemend neurons ablate --run runs/mine

        tracemend neurons ablate --model smollm2 --data ud_ewt --task Number --among NOUN --site blocks.10.mlp.hook_post
    """
    given: dict[str, Any] = {
        "site": site, "how": how, "units": tuple(units), "sizes": tuple(sizes), "at": at, "draws": draws, "beta": beta,
        "seed": common.seed,
    }  # fmt: skip
    if run is not None:
        u.refuse(context, (*_OF_WORDS, "model"), "with --run, which has its model and labelled texts")
        if data is None:
            u.refuse(context, ("label", "group"), "without --data: the run's own texts have theirs")
        given |= {"texts": texts, "batch_size": batch_size}
        u.run_classifier(context, "ablate-classifier", given, run, data, label, common, group=group, sae=sae)
        return
    u.refuse(context, ("label", "group", "texts", "batch_size"), "without --run")
    if data is None:
        raise NeuronError("give --run RUN to take units of a tuned classifier, or --data PATH with a treebank.")
    given |= {
        "order": order, "read": read, "sentences": sentences, "task": task, "among": among, "pooling": pooling,
        "train_items": train_items, "test_items": test_items, "fewest": fewest,
    }  # fmt: skip
    u.run_words(context, "ablate", given, model, data, common, sae=sae)


@grouped
def correlation(
    context: typer.Context,
    *,
    data: u.Data,
    other: Annotated[
        str, typer.Option(metavar="MODEL", help="The other model, or several with commas; none for another layer.")
    ] = "",
    other_site: Annotated[str, typer.Option(metavar="SITE", help="Whose units in it.")] = "blocks.2.hook_resid_post",
    by: Annotated[u.By, typer.Option(help="What ranks the units.")] = "max",
    task: u.Task = "upos",
    among: u.Among = "",
    site: u.SiteName = "blocks.1.hook_resid_post",
    pooling: u.Pool = "mean",
    sizes: u.Sizes = u.DOSES,
    at: u.At = 50,
    draws: Annotated[int, typer.Option(min=1, help="Random sets, the control.")] = 3,
    train_items: u.MaxTrain = 8_000,
    test_items: u.MaxTest = 4_000,
    fewest: u.Fewest = 50,
    model: o.Model = "minilm",
    common: Common,
) -> None:
    """Rank units by how far another model, or layer, has them as well; and take the first away.

    Example:

        tracemend neurons correlation --data ud_ewt --other smollm2 --other-site blocks.10.hook_resid_post
    """
    given = {
        "other": other, "other_site": other_site, "by": by, "task": task, "among": among, "site": site,
        "pooling": pooling, "sizes": tuple(sizes), "at": at, "draws": draws, "train_items": train_items,
        "test_items": test_items, "fewest": fewest, "seed": common.seed,
    }  # fmt: skip
    u.run_words(context, "correlation", given, model, data, common)


@grouped
def compose(
    context: typer.Context,
    *,
    data: u.Source = None,
    run: u.OfRun = None,
    label: u.LabelColumn = "label",
    group: u.GroupColumn = None,
    site: u.SiteName = "blocks.1.mlp.hook_post",
    sae: u.Sae = None,
    pooling: u.Pool = "mean",
    units: Annotated[list[int], typer.Option(min=0, help="A unit to explain; again for more.")] = u.NONE,
    neurons: Annotated[int, typer.Option(min=1, help="Without --units: random units to explain.")] = 60,
    length: Annotated[int, typer.Option(min=1, help="Most features of a formula.")] = 3,
    beam: Annotated[int, typer.Option(min=1, help="Formulas that go on to the next length.")] = 10,
    penalty: Annotated[float, typer.Option(help="Factor of the score for each further feature.")] = 1.0,
    top: Annotated[
        float | None, typer.Option(help="Share of words on which a unit fires (0.02); with --run of texts (0.1).")
    ] = None,
    features: Annotated[
        int | None, typer.Option(min=1, help="Most forms, and most lemmas (200); with --run most words (500).")
    ] = None,
    fewest: Annotated[
        int | None, typer.Option(min=1, help="Words of which a feature must hold (20); with --run texts (5).")
    ] = None,
    near: Annotated[bool, typer.Option(help="Take the neighbours of lemmas as features.")] = True,
    train_items: Annotated[int, typer.Option(min=1, help="Words in which formulas are sought.")] = 10_000,
    test_items: Annotated[int, typer.Option(min=1, help="Words on which they are measured.")] = 5_000,
    sides: Annotated[
        bool, typer.Option("--sides", help="With --run: words of text and reply apart, and their overlap.")
    ] = False,
    edited: Annotated[int, typer.Option(min=1, help="With --run: most texts that a word is added to.")] = 40,
    texts: Annotated[int, typer.Option(min=1, help="With --run: most texts of each part.")] = 1_000,
    batch_size: Annotated[int, typer.Option(min=1, help="With --run: texts of a pass.")] = 32,
    draws: Annotated[int, typer.Option(min=1, help="Turns of the text, for the chance level.")] = 2_000,
    model: o.Model = "minilm",
    common: Common,
) -> None:
    """Say where units fire as formulas of features of words, measured on other text.

    Example:

        tracemend neurons compose --model minilm --data ud_ewt --site blocks.2.mlp.hook_post --out runs/formulas

        tracemend neurons compose --run runs/mine --site blocks.5.mlp.hook_post
    """
    given: dict[str, Any] = {
        "site": site, "units": tuple(units), "neurons": neurons, "length": length, "beam": beam, "penalty": penalty,
        "draws": draws, "seed": common.seed,
    }  # fmt: skip
    own = {"top": top, "features": features, "fewest": fewest}
    given |= {name: value for name, value in own.items() if value is not None}
    if run is not None:
        of_words = ("pooling", "near", "train_items", "test_items", "model")
        u.refuse(context, of_words, "with --run, which has its model and labelled texts")
        if data is None:
            u.refuse(context, ("label", "group"), "without --data: the run's own texts have theirs")
        given |= {"sides": sides, "edited": edited, "texts": texts, "batch_size": batch_size}
        u.run_classifier(context, "compose-classifier", given, run, data, label, common, group=group, sae=sae)
        return
    u.refuse(context, ("label", "group", "sides", "edited", "texts", "batch_size"), "without --run")
    if data is None:
        raise NeuronError("give --run RUN for units of a tuned classifier, or --data PATH with a treebank.")
    given |= {"pooling": pooling, "near": near, "train_items": train_items, "test_items": test_items}
    u.run_words(context, "compose", given, model, data, common, sae=sae)


@grouped
def explain(
    context: typer.Context,
    *,
    data: u.Data,
    site: u.SiteName = "blocks.1.mlp.hook_post",
    sae: u.Sae = None,
    pooling: u.Pool = "mean",
    units: Annotated[list[int], typer.Option(min=0, help="A unit to explain; again for more.")] = u.NONE,
    neurons: Annotated[int, typer.Option(min=1, help="Without --units: random units to explain.")] = 60,
    explainer: Annotated[u.Explainer, typer.Option(help="None, a local chat model, or a server.")] = "embedded",
    llm: Annotated[str, typer.Option(metavar="NAME", help="The chat model, local or at the endpoint.")] = "smollm2",
    url: Annotated[
        str, typer.Option(metavar="URL", help="Of the endpoint, up to /v1; its key is read from OPENAI_API_KEY.")
    ] = "",
    timeout: Annotated[float, typer.Option(help="Seconds that an answer may take.")] = 60.0,
    tries: Annotated[int, typer.Option(min=1, help="How often a question is put.")] = 4,
    parts: Annotated[int, typer.Option(min=1, help="Words and classes in an explanation without a model.")] = 8,
    excerpt: Annotated[int, typer.Option(min=1, help="Most words of an excerpt.")] = 32,
    excerpts: Annotated[int, typer.Option(min=1, help="Top ones to explain by; and random ones to score on.")] = 5,
    train_items: Annotated[int, typer.Option(min=1, help="Words to explain by.")] = 10_000,
    test_items: Annotated[int, typer.Option(min=1, help="Words to score on.")] = 10_000,
    ablated: Annotated[int, typer.Option(min=0, help="Units to score by ablation too, the first ones.")] = 10,
    model: o.Model = "minilm",
    common: Common,
) -> None:
    """Say in words what units do, simulate them by that, and score it on other text.

    The excerpts on which units are most active are kept as coloured text in units.html.

    Example:

        tracemend neurons explain --model minilm --data ud_ewt --site blocks.2.mlp.hook_post --out runs/explained

        tracemend neurons explain --data ud_ewt --explainer endpoint --url http://localhost:8000/v1 --llm my-model

        tracemend neurons explain --model smollm2 --data ud_ewt --sae runs/features/sae
    """
    from tracemend.report import write_report, write_units

    given = {
        "site": site, "pooling": pooling, "units": tuple(units), "neurons": neurons, "explainer": explainer, "llm": llm,
        "url": url, "timeout": timeout, "tries": tries, "parts": parts, "excerpt": excerpt, "excerpts": excerpts,
        "train_items": train_items, "test_items": test_items, "ablated": ablated, "seed": common.seed,
    }  # fmt: skip
    found, folder = u.run_words(context, "explain", given, model, data, common, sae=sae)
    page = write_units(found, folder / "units.html")
    write_report(folder)  # it names the page now
    print_files(person(json=common.json), {"coloured": page})
