"""``tracemend probe``: what a model's representations and predictions hold, with the controls beside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tracemend.cli import options as o
from tracemend.cli import probe_heads, probe_prompting
from tracemend.cli.grouped import grouped
from tracemend.cli.output import person, print_table
from tracemend.cli.probed import Common, Pronouns, RandomModels, TrainPronouns, probed, pronouns_of

Pooling = Literal["mean", "first", "last"]
Geometry = Literal["euclidean", "poincare"]
EdgeTask = Literal[
    "dependency", "pos", "constituents", "entities", "coreference", "relation", "question-type", "evidence", "spans"
]

probe = typer.Typer(
    no_args_is_help=True,
    help="Ask what a model's representations and predictions hold; every figure with its controls.",
)

Data = Annotated[
    Path, typer.Option("--data", metavar="PATH", help="A .conllu or BIO file, or a folder with train, dev and test.")
]
MaxTrain = Annotated[int, typer.Option("--train-items", min=1, help="Most items to train on.")]
MaxTest = Annotated[int, typer.Option("--test-items", min=1, help="Most items to test on.")]
Layer = Annotated[list[int] | None, typer.Option(help="A layer to probe; give it again for more (default: all).")]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Folder of representations, for several probes of the same model and data (default: in the run).",
    ),
]


probe.command("heads")(probe_heads.heads)
probe.command("head-coreference")(probe_heads.head_coreference)
probe.command("head-patterns")(probe_heads.head_patterns)
probe.command("head-pruning")(probe_heads.head_pruning)
probe.command("attention-trace")(probe_heads.attention_trace)
probe.command("prompting")(probe_prompting.prompting)
probe.command("prompt-search")(probe_prompting.prompt_search)


@probe.command("layers")
@grouped
def layers(
    *,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="PATH",
            help="A .conllu or BIO file, or a folder with train, dev and test; with --text and --label a table.",
        ),
    ],
    task: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="upos, deprel, ner, a feature such as Number; length, depth, tense, voice, subject-number, "
            "object-number, bigram-shift; previous-word, next-word. Of labelled texts it is their label.",
        ),
    ] = "upos",
    text: Annotated[str | None, typer.Option(metavar="COL", help="Column of the text, of labelled texts.")] = None,
    label: Annotated[str | None, typer.Option(metavar="COL", help="Column of their labels.")] = None,
    group: o.Group = None,
    model: o.Model = "minilm",
    hidden: Annotated[int, typer.Option(min=0, help="Units of a hidden layer; 0: a linear probe.")] = 0,
    c: Annotated[float, typer.Option("-c", "--c", help="Inverse strength of the penalty on the weights.")] = 0.1,
    pooling: Annotated[Pooling, typer.Option(help="Of a word's tokens.")] = "mean",
    layer: Layer = None,
    train_items: MaxTrain = 12_000,
    test_items: MaxTest = 7_000,
    mdl: Annotated[bool, typer.Option("--mdl/--no-mdl", help="Take the codelength as well.")] = True,
    random_models: RandomModels = 2,
    cache: Cache = None,
    common: Common,
) -> None:
    """Train a classifier on every layer and say what it reads, and what its controls read.

    Example:

        tracemend probe layers --model minilm --data ud_ewt --task upos --out runs/upos
    """
    from tracemend.data import read, read_treebank
    from tracemend.errors import DataError
    from tracemend.probing import LayerProbe

    if (text is None) != (label is None):
        raise DataError("labelled texts need both columns; give --text and --label, or neither for a treebank.")
    given: Any
    if text is not None and label is not None:
        if task not in ("upos", "label"):
            raise DataError(f"the task of labelled texts is their label, not {task!r}; leave --task out.")
        given, task = read(str(data), text=text, label=label, group=group), "label"
    else:
        if group is not None:
            raise DataError("--group is a column of labelled texts; give --text and --label as well, or leave it out.")
        given = read_treebank(data)
    method = LayerProbe(
        task=task, hidden=hidden, c=c, pooling=pooling, layers=tuple(layer or ()), train_items=train_items,
        test_items=test_items, mdl=mdl, random_models=random_models, seed=common.seed,
    )  # fmt: skip
    probed(method, model, given, data, common, cache=cache)


@probe.command("minimal-pairs")
@grouped
def minimal_pairs(
    *,
    data: Annotated[
        Path, typer.Option("--data", metavar="FILE", help="BLiMP's JSONL, or any table with two columns of sentences.")
    ],
    good: Annotated[str | None, typer.Option(metavar="COL", help="Column of the acceptable sentences.")] = None,
    bad: Annotated[str | None, typer.Option(metavar="COL", help="Column of the others.")] = None,
    phenomenon: Annotated[str | None, typer.Option(metavar="COL", help="Column of what a pair is about.")] = None,
    per_paradigm: Annotated[
        int | None, typer.Option(min=1, help="At most so many random pairs of each paradigm.")
    ] = None,
    model: o.Model = "smollm2",
    masked: Annotated[bool, typer.Option("--masked", help="Load an encoder with its masked head.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts of a forward pass.")] = 16,
    random_models: RandomModels = 2,
    common: Common,
) -> None:
    """Count the minimal pairs of which the model finds the acceptable sentence more probable.

    Example:

        tracemend probe minimal-pairs --model smollm2 --data blimp-200.jsonl --per-paradigm 10 --out runs/blimp
    """
    from tracemend.data import read_pairs
    from tracemend.probing import MinimalPairsProbe
    from tracemend.probing.minimal_pairs import MinimalPairsResult

    pairs = read_pairs(data, good=good, bad=bad, phenomenon=phenomenon)
    if per_paradigm is not None:
        pairs = pairs.sample(per_paradigm, seed=common.seed)
    method = MinimalPairsProbe(batch_size=batch_size, random_models=random_models, seed=common.seed)
    found = probed(method, model, pairs, data, common, masked=masked)
    if isinstance(found, MinimalPairsResult):
        console = person(json=common.json)
        console.print("\nthe pairs that the model is most wrong about", style="dim")
        print_table(console, found.worst(10))


@probe.command("structural")
@grouped
def structural(
    *,
    data: Data,
    model: o.Model = "minilm",
    rank: Annotated[list[int] | None, typer.Option(help="Of the map; give it again for a sweep (default 64).")] = None,
    geometry: Annotated[Geometry, typer.Option(help="Of the space that the map goes into.")] = "euclidean",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training sentences.")] = 20,
    layer: Layer = None,
    train_sentences: Annotated[int, typer.Option(min=1, help="Most sentences to train on.")] = 1500,
    test_sentences: Annotated[int, typer.Option(min=1, help="Most sentences to test on.")] = 500,
    random_models: RandomModels = 2,
    cache: Cache = None,
    common: Common,
) -> None:
    """Look for syntax trees in the distances between a layer's vectors.

    Example:

        tracemend probe structural --model minilm --data ud_ewt --rank 64 --out runs/trees
    """
    from tracemend.data import read_conllu
    from tracemend.probing import StructuralProbe

    method = StructuralProbe(
        ranks=tuple(rank or (64,)), geometry=geometry, epochs=epochs, layers=tuple(layer or ()),
        train_sentences=train_sentences, test_sentences=test_sentences, random_models=random_models, seed=common.seed,
    )  # fmt: skip
    probed(method, model, read_conllu(data), data, common, cache=cache)


@probe.command("edge")
@grouped
def edge(
    *,
    data: Annotated[
        Path,
        typer.Option("--data", metavar="PATH", help="Labelled spans (.jsonl), or what the task is made of."),
    ],
    task: Annotated[
        EdgeTask | None,
        typer.Option(
            help="dependency, pos, question-type (a treebank); constituents (with .ptb files beside it); entities "
            "(BIO, or GUM's .conllu), coreference (GUM's); relation (a folder of facts and patterns); evidence "
            "(documents with rationales); spans (labelled ones, whatever they are). Left out: spans of .jsonl, else "
            "dependency."
        ),
    ] = None,
    entities: Annotated[bool, typer.Option("--entities", help="The same as --task entities.")] = False,
    model: o.Model = "minilm",
    hidden: Annotated[int, typer.Option(min=0, help="Units of a hidden layer; 0: a linear probe.")] = 0,
    c: Annotated[float, typer.Option("-c", "--c", help="Inverse strength of the penalty on the weights.")] = 0.1,
    layer: Layer = None,
    train_items: MaxTrain = 12_000,
    test_items: MaxTest = 7_000,
    mdl: Annotated[bool, typer.Option("--mdl/--no-mdl", help="Take the codelength as well.")] = False,
    expected_layer: Annotated[
        bool, typer.Option("--expected-layer", help="Mix layers 0 to l for every l, and say what each adds.")
    ] = False,
    random_models: RandomModels = 2,
    cache: Cache = None,
    common: Common,
) -> None:
    """Classify spans and pairs of spans, by layer and over a mixture of layers.

    Example:

        tracemend probe edge --model minilm --data ud_ewt --out runs/dependencies
    """
    from tracemend.probing import EdgeProbe

    given, asked = _edge_data(data, _edge_task(data, task, entities=entities))
    method = EdgeProbe(
        task=asked, hidden=hidden, c=c, layers=tuple(layer or ()), train_items=train_items, test_items=test_items,
        mdl=mdl, expected_layer=expected_layer, random_models=random_models, seed=common.seed,
    )  # fmt: skip
    probed(method, model, given, data, common, cache=cache)


def _edge_task(data: Path, task: EdgeTask | None, *, entities: bool) -> EdgeTask:
    """The task that is asked for; options that contradict one another, or the data, are refused."""
    from tracemend.errors import DataError

    if entities and task not in (None, "entities"):
        raise DataError(f"--entities asks for entities and --task for {task}; give one of them.")
    labelled = ".jsonl" in _endings(data)
    asked = "entities" if entities else task
    if asked is None:
        return "spans" if labelled else "dependency"
    if labelled and asked not in ("spans", "relation", "evidence"):
        raise DataError(
            f"{data} holds labelled spans (.jsonl), of which their labels are asked, and not {asked}; leave --task "
            "out, or give a treebank."
        )
    return asked


def _edge_data(data: Path, task: EdgeTask) -> tuple[Any, str]:
    """What a task is asked of, and its name."""
    from tracemend import data as read
    from tracemend.errors import DataError

    if task == "relation":
        return read.relation_spans(read.read_facts(data)), task
    if task == "evidence":
        return read.read_evidence(data), task
    if task == "spans":
        return read.read_spans(data), task
    bank = read.read_treebank(data)
    if task == "constituents":
        trees = read.trees_beside(data)
        if trees is None:
            raise DataError(f"{data} has no constituent trees; put a .ptb file beside every .conllu file.")
        return read.constituent_spans(bank, trees), task
    if task == "entities" and ".conllu" not in _endings(data):
        return read.entity_spans(bank), task
    of = {
        "entities": read.gum_entities,
        "coreference": read.coreference_spans,
        "pos": read.pos_spans,
        "question-type": read.question_spans,
    }
    return (of[task](bank) if task in of else bank), task


def _endings(data: Path) -> set[str]:
    return {path.suffix for path in data.iterdir()} if data.is_dir() else {data.suffix}


@probe.command("cloze")
@grouped
def cloze(
    *,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="PATH",
            help="A folder, told by its files: facts.jsonl and patterns.jsonl, as ParaRel's; NEG-136-SIMP.tsv, kinds "
            "of things affirmed and denied; probes.jsonl, facts with negated and misprimed versions.",
        ),
    ],
    relation: Annotated[
        list[str] | None, typer.Option(help="A relation; give it again for more (default: the first ten).")
    ] = None,
    facts: Annotated[int, typer.Option(min=1, help="Most facts of each relation.")] = 15,
    patterns: Annotated[int, typer.Option(min=1, help="Most patterns of each relation.")] = 2,
    k: Annotated[int, typer.Option("--k", min=1, help="Of P@K, beside P@1.")] = 10,
    model: o.Model = "smollm2",
    masked: Annotated[bool, typer.Option("--masked", help="Load an encoder with its masked head.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts of a forward pass.")] = 16,
    random_models: RandomModels = 2,
    common: Common,
) -> None:
    """Ask for facts by patterns with a gap, and by a pattern that asks for nothing.

    Example:

        tracemend probe cloze --model smollm2 --data pararel --out runs/facts
    """
    from tracemend.data import read_cloze
    from tracemend.probing import ClozeProbe

    method = ClozeProbe(
        relations=tuple(relation or ()),
        facts=facts,
        patterns=patterns,
        k=k,
        batch_size=batch_size,
        random_models=random_models,
        seed=common.seed,
    )
    probed(method, model, read_cloze(data), data, common, masked=masked)


@probe.command("coreference")
@grouped
def coreference(
    *,
    data: Pronouns,
    train: TrainPronouns = None,
    model: o.Model = "minilm",
    rank: Annotated[int, typer.Option(min=1, help="Of the two maps.")] = 128,
    layer: Layer = None,
    train_examples: Annotated[int, typer.Option(min=1, help="Most pronouns to train on.")] = 400,
    test_examples: Annotated[int, typer.Option(min=1, help="Most pronouns to test on.")] = 400,
    random_models: RandomModels = 2,
    cache: Cache = None,
    common: Common,
) -> None:
    """Ask whether the vector of a pronoun picks out whom it stands for.

    Example:

        tracemend probe coreference --model minilm --data winobias --train gap --out runs/winobias
    """
    from tracemend.probing import CoreferenceProbe

    method = CoreferenceProbe(
        rank=rank, layers=tuple(layer or ()), train_examples=train_examples, test_examples=test_examples,
        random_models=random_models, seed=common.seed,
    )  # fmt: skip
    probed(method, model, pronouns_of(data, train), data, common, cache=cache)
