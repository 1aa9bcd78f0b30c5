"""The ``tracemend probe`` commands that ask of attention: heads, their patterns, their removal, their traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracemend.cli import options as o
from tracemend.cli.grouped import grouped
from tracemend.cli.probed import Common, Pronouns, RandomModels, TrainPronouns, probed, pronouns_of

Trees = Annotated[
    Path, typer.Option("--data", metavar="PATH", help="A .conllu file, or a folder with train, dev and test.")
]
Words = Annotated[
    Path, typer.Option("--data", metavar="PATH", help="A .conllu or BIO file, or a folder; only its words are read.")
]


@grouped
def heads(
    *,
    data: Trees,
    model: o.Model = "minilm",
    choosing_sentences: Annotated[
        int, typer.Option(min=1, help="Most sentences on which heads and offsets are chosen.")
    ] = 400,
    test_sentences: Annotated[int, typer.Option(min=1, help="Most sentences to test on.")] = 400,
    least: Annotated[int, typer.Option(min=1, help="Words that a relation must have in both.")] = 20,
    random_models: RandomModels = 2,
    common: Common,
) -> None:
    """Ask which attention heads find syntactic heads, beside fixed offsets.

    Example:

        tracemend probe heads --model minilm --data ud_ewt --out runs/heads
    """
    from tracemend.data import read_conllu
    from tracemend.probing import HeadProbe

    method = HeadProbe(
        choosing_sentences=choosing_sentences,
        test_sentences=test_sentences,
        least=least,
        random_models=random_models,
        seed=common.seed,
    )
    probed(method, model, read_conllu(data), data, common)


@grouped
def head_coreference(
    *,
    data: Pronouns,
    train: TrainPronouns = None,
    model: o.Model = "minilm",
    choosing_examples: Annotated[int, typer.Option(min=1, help="Most pronouns on which a head is chosen.")] = 400,
    test_examples: Annotated[int, typer.Option(min=1, help="Most pronouns to test on.")] = 400,
    random_models: RandomModels = 2,
    common: Common,
) -> None:
    """Ask which attention heads look from a pronoun to whom it stands for, beside the nearest name.

    Example:

        tracemend probe head-coreference --model minilm --data gap --out runs/pronouns
    """
    from tracemend.probing import HeadCoreference

    method = HeadCoreference(
        choosing_examples=choosing_examples, test_examples=test_examples, random_models=random_models, seed=common.seed
    )
    probed(method, model, pronouns_of(data, train), data, common)


@grouped
def head_patterns(
    *,
    data: Words,
    model: o.Model = "minilm",
    pairs: Annotated[int, typer.Option(min=1, help="Of consecutive sentences, at random.")] = 40,
    random_models: RandomModels = 2,
    common: Common,
) -> None:
    """Name the pattern of every head's attention: columns, diagonals, blocks, or none.

    Example:

        tracemend probe head-patterns --model minilm --data ud_ewt --out runs/patterns
    """
    from tracemend.data import read_treebank
    from tracemend.probing import HeadPatterns

    probed(
        HeadPatterns(pairs=pairs, random_models=random_models, seed=common.seed),
        model,
        read_treebank(data),
        data,
        common,
    )


@grouped
def head_pruning(
    *,
    run: Annotated[Path, typer.Option(metavar="RUN", help="The directory of a finished run, whose classifier it is.")],
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="Labelled texts that it was not tuned on.")],
    label: Annotated[str, typer.Option(metavar="COL", help="Column of the labels.")],
    group: o.Group = None,
    texts: Annotated[int, typer.Option(min=1, help="Most texts of each half.")] = 500,
    draws: Annotated[int, typer.Option(min=1, help="Random orders, the control.")] = 5,
    maps: Annotated[
        int, typer.Option(min=0, help="Pairs of passages that name the heads' patterns; 0 names none.")
    ] = 20,
    by_layer: Annotated[bool, typer.Option("--by-layer", help="Divide importances by their norm in a layer.")] = False,
    common: Common,
) -> None:
    """Take attention heads from a run's classifier: the least important, random ones, the most important, a pattern's.

    Example:

        tracemend probe head-pruning --run runs/mine --data test.csv --label label
    """
    from tracemend.data import read
    from tracemend.probing import HeadPruning
    from tracemend.tuning.predictor import Predictor

    predictor = Predictor.load(run)
    columns = predictor.columns
    labelled = read(
        str(data), text=columns["text"], reply=columns.get("reply"), label=label, group=group,
        label_names=predictor.classifier.labels,
    )  # fmt: skip
    method = HeadPruning(texts=texts, draws=draws, maps=maps, by_layer=by_layer, seed=common.seed)
    probed(method, predictor.classifier, labelled, data, common)


@grouped
def attention_trace(
    *,
    data: Words,
    model: o.Model = "minilm",
    sentences: Annotated[int, typer.Option(min=1, help="At most, at random, of 4 to 40 words.")] = 100,
    share: Annotated[float, typer.Option(help="Of a sentence's words, deleted together.")] = 0.2,
    random_models: RandomModels = 2,
    common: Common,
) -> None:
    """Trace attention back to the words, and see whether the output hangs on them.

    Example:

        tracemend probe attention-trace --model minilm --data ud_ewt --out runs/traced
    """
    from tracemend.data import read_treebank
    from tracemend.probing import AttentionTrace

    method = AttentionTrace(sentences=sentences, share=share, random_models=random_models, seed=common.seed)
    probed(method, model, read_treebank(data), data, common)
