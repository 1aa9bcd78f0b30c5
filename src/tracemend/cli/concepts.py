"""``tracemend concepts``: which human concepts a classifier uses, and what a function of text stands for in words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tracemend.cli import options as o
from tracemend.cli.grouped import grouped
from tracemend.cli.output import command_line, person, print_table
from tracemend.cli.probed import Common, run_shown, show_found
from tracemend.cli.progress import shown
from tracemend.cli.units import refuse, site_of

_HELP = "Which human concepts a classifier uses, and what a unit stands for in words; each with its controls."
Pooling = Literal["max", "mean"]
_METHOD, _DATA, _MODEL = "Method", "Data", "Model"

concepts = typer.Typer(no_args_is_help=True, help=_HELP)


@concepts.callback()
def _callback() -> None:
    """Which human concepts a classifier uses, and what a unit stands for in words; each with its controls."""


Layers = Annotated[
    list[int] | None,
    typer.Option(min=1, help="From 1; again for more (default: up to six, evenly).", rich_help_panel=_METHOD),
]


@concepts.command("tcav")
@grouped
def tcav(
    *,
    concepts: Annotated[
        str,
        typer.Option(metavar="FILE", help="Examples of concepts: columns text and concept.", rich_help_panel=_DATA),
    ],
    random: Annotated[
        str, typer.Option(metavar="FILE", help="Texts of no concept: column text.", rich_help_panel=_DATA)
    ],
    data: Annotated[
        str, typer.Option(metavar="FILE", help="Texts whose classification is asked about.", rich_help_panel=_DATA)
    ],
    text_column: Annotated[str, typer.Option(metavar="COL", help="Of --data.", rich_help_panel=_DATA)] = "text",
    label_column: Annotated[
        str | None,
        typer.Option(
            metavar="COL", help="Of --data: take the texts of the label (default: those classified so).",
            rich_help_panel=_DATA,
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The directory of a finished run.", rich_help_panel=_MODEL)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="In place of --run: a model that writes, untuned.", rich_help_panel=_MODEL)
    ] = None,
    word: Annotated[
        list[str] | None,
        typer.Option(help="A label of --model, as the word it may answer; again for each.", rich_help_panel=_MODEL),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Asked about (default: the run's positive).", rich_help_panel=_METHOD)
    ] = None,
    layers: Layers = None,
    at: Annotated[
        int, typer.Option(min=0, help="Layer of the figures; 0: two thirds up.", rich_help_panel=_METHOD)
    ] = 0,
    sets: Annotated[int, typer.Option(help="Vectors of each concept, 20 or more.", rich_help_panel=_METHOD)] = 20,
    examples: Annotated[int, typer.Option(help="Drawn for each vector, at most.", rich_help_panel=_METHOD)] = 60,
    random_concepts: Annotated[
        int, typer.Option(min=2, help="Random sets treated as concepts.", rich_help_panel=_METHOD)
    ] = 20,
    relative: Annotated[
        bool, typer.Option(help="Also each concept against each other one.", rich_help_panel=_METHOD)
    ] = True,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts at a time.", rich_help_panel=_METHOD)] = 32,
    common: Common,
) -> None:  # fmt: skip
    """Test whether a classifier's answer follows concepts that sets of example texts define.

    Example:

        tracemend concepts tcav --run runs/mine --concepts adjectives.csv --random neutral.csv --data reviews.csv

        tracemend concepts tcav --model smollm2 --word negative --word positive --concepts adjectives.csv ...
    """
    from tracemend.concepts import Tcav, TcavResult
    from tracemend.concepts.run import classifier_of, concepts_run
    from tracemend.data import read_concepts, read_unlabelled
    from tracemend.data.readers import labels_of
    from tracemend.data.sources import open_table
    from tracemend.errors import DataError
    from tracemend.method_runs import in_folder

    method = Tcav(
        label=label, layers=tuple(layers or ()), at=at, sets=sets, examples=examples, random_concepts=random_concepts,
        relative=relative, batch_size=batch_size, seed=common.seed,
    )  # fmt: skip
    with o.columns_of(options={"text": "--text-column"}):
        table = open_table(data)
        texts, others = read_unlabelled(table, text=text_column)
    if label_column is not None and label_column not in others:
        raise DataError(f"{data} has no column {label_column!r}; it has: {', '.join([text_column, *others])}.")
    labels = None if label_column is None else labels_of(table, label_column)
    sets_of = read_concepts(concepts, random, texts, labels=labels)
    classifier, called, print_of = classifier_of(run, model, word or ())
    about = {"model": called, "data": [Path(source).name for source in (concepts, random, data)]}
    with shown(common.quiet) as progress:
        found, folder, said = in_folder(
            common.out,
            f"concepts-tcav-{Path(concepts).name.split('.')[0]}",
            lambda folder: concepts_run(
                method, classifier, sets_of, out=folder, about=about,
                prints={"model": print_of, "data": sets_of.fingerprint}, command_line=command_line(),
                progress=progress,
            ),
        )  # fmt: skip
    if isinstance(found, TcavResult):
        print_table(person(json=common.json), found.examples[found.examples["rank"] <= 3])
    show_found(found, folder, said, json=common.json)


@concepts.command("sasc")
@grouped
def sasc(
    context: typer.Context,
    *,
    data: Annotated[
        str, typer.Option(metavar="FILE", help="Texts whose n-grams are asked about.", rich_help_panel=_DATA)
    ],
    text_column: Annotated[str, typer.Option(metavar="COL", help="Of --data.", rich_help_panel=_DATA)] = "text",
    model: Annotated[
        str | None, typer.Option(help="Explain a unit of this model.", rich_help_panel=_MODEL)
    ] = None,
    site: Annotated[
        str | None, typer.Option(metavar="SITE", help="Of --model, such as blocks.3.mlp.hook_post.",
                                 rich_help_panel=_MODEL)
    ] = None,
    sae: Annotated[
        Path | None,
        typer.Option("--sae", metavar="FOLDER", help="The unit is a feature of this autoencoder.",
                     rich_help_panel=_MODEL),
    ] = None,
    unit: Annotated[int, typer.Option(min=0, help="Of the site.", rich_help_panel=_MODEL)] = 0,
    pooling: Annotated[
        Pooling, typer.Option(help="Over tokens: the unit's largest value, or its mean.", rich_help_panel=_MODEL)
    ] = "max",
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Explain a label of a finished run.", rich_help_panel=_MODEL)
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Of --run (default: its positive).", rich_help_panel=_MODEL)
    ] = None,
    longest: Annotated[int, typer.Option(min=1, help="Words of an n-gram, at most.", rich_help_panel=_METHOD)] = 3,
    grams: Annotated[int, typer.Option(help="N-grams, at most.", rich_help_panel=_METHOD)] = 6_000,
    top: Annotated[int, typer.Option(help="Driving words.", rich_help_panel=_METHOD)] = 30,
    candidates: Annotated[int, typer.Option(min=1, help="Explanations.", rich_help_panel=_METHOD)] = 5,
    texts: Annotated[int, typer.Option(help="Of either side of each test.", rich_help_panel=_METHOD)] = 20,
    shuffles: Annotated[
        int, typer.Option(min=1, help="Times that answers are dealt anew, as control.", rich_help_panel=_METHOD)
    ] = 5,
    directions: Annotated[
        int, typer.Option(min=1, help="Random directions of that space, as control.", rich_help_panel=_METHOD)
    ] = 10,
    encoder: Annotated[
        str, typer.Option(help="In whose space words are near or far.", rich_help_panel=_METHOD)
    ] = "minilm",
    common: Common,
) -> None:  # fmt: skip
    """Say in words what a unit of a model, or a label of a run, responds to, and test it on made texts.

    Any other function from text to a number is explained in Python.

    Example:

        tracemend concepts sasc --model minilm --site blocks.3.mlp.hook_post --unit 941 --data texts.csv

        tracemend concepts sasc --model smollm2 --sae runs/features/sae --unit 7 --data texts.csv

        tracemend concepts sasc --run runs/mine --label unsafe --data texts.csv
    """
    from tracemend.concepts import LabelOdds, Sasc, UnitOfSite
    from tracemend.concepts.run import classifier_of, concepts_run
    from tracemend.data import read_texts
    from tracemend.errors import ConceptError
    from tracemend.models import load
    from tracemend.runs import fingerprint
    from tracemend.tuning.predictor import Predictor

    method = Sasc(
        longest=longest, grams=grams, top=top, candidates=candidates, texts=texts, shuffles=shuffles,
        directions=directions, encoder=encoder, seed=common.seed,
    )  # fmt: skip
    with o.columns_of(options={"text": "--text-column"}):
        corpus = [text for text, _ in read_texts(data, text=text_column)]
    if (run is None) == (model is None) or (model is not None and site is None and sae is None):
        raise ConceptError(
            "name either --run, whose label is explained, or --model with its --site (or --sae) and --unit."
        )
    module: LabelOdds | UnitOfSite
    if model is None:
        refuse(context, ("site", "sae", "unit", "pooling"), "with --run, of which a label is explained")
    if model is not None:
        if label is not None:
            raise ConceptError("--label is of --run; a unit of --model has none.")
        network = load(model)
        site = site_of(context, sae, site or "", network)
        module = UnitOfSite(network, site, unit, pooling)
        about = {"model": model, "site": site, "unit": unit, "pooling": pooling}
        print_of = network.fingerprint
    else:
        found, called, print_of = classifier_of(run, None, ())
        classifier = found.classifier if isinstance(found, Predictor) else found
        chosen = label or (found.positive if isinstance(found, Predictor) else classifier.labels[-1])
        module = LabelOdds(classifier, chosen)
        about = {"model": called, "label": chosen}
    prints = {"model": print_of, "data": fingerprint(corpus)}
    run_shown(
        common,
        f"concepts-sasc-{Path(data).name.split('.')[0]}",
        lambda folder, progress: concepts_run(
            method, module, corpus, out=folder, about={**about, "data": Path(data).name}, prints=prints,
            command_line=command_line(), progress=progress,
        ),
    )  # fmt: skip
