"""``tracemend probe prompting`` and ``prompt-search``: a model asked by many wordings, given or searched for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracemend.cli import options as o
from tracemend.cli.grouped import grouped
from tracemend.cli.probed import Common, RandomModels, probed


@grouped
def prompting(
    *,
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="Labelled texts; they are divided.")],
    text: Annotated[str, typer.Option(metavar="COL", help="Column of the text.")],
    label: Annotated[str, typer.Option(metavar="COL", help="Column of the labels.")],
    group: o.Group = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help="With [X] for the text and [Y], the label, at its end; give it again for more."),
    ] = None,
    word: Annotated[
        list[str] | None, typer.Option(metavar="LABEL=WORD", help="For a label whose name is no word; again for more.")
    ] = None,
    shots: Annotated[int, typer.Option(min=1, help="Examples of every label.")] = 2,
    orders: Annotated[int, typer.Option(min=1, help="Of the examples.")] = 3,
    dev_texts: Annotated[int, typer.Option(min=1, help="Most texts to choose a prompt on.")] = 50,
    test_texts: Annotated[int, typer.Option(min=1, help="Most texts to test on.")] = 100,
    train_texts: Annotated[int, typer.Option(min=1, help="Most texts for the probe and the prefix.")] = 200,
    prefix: Annotated[int, typer.Option(min=0, help="Virtual tokens of a prefix to tune; 0: none.")] = 0,
    prefix_epochs: Annotated[int, typer.Option(min=1, help="Of its tuning.")] = 5,
    prefix_rate: Annotated[float, typer.Option(help="Highest learning rate of its tuning.")] = 0.01,
    model: o.Model = "smollm2",
    random_models: RandomModels = 2,
    common: Common,
) -> None:
    """Classify by prompts, zero-shot and with examples, and say how much hangs on the wording.

    Example:

        tracemend probe prompting --data reviews.csv --text text --label label --word 0=negative --word 1=positive
    """
    from tracemend.data import read
    from tracemend.probing import PromptingProbe
    from tracemend.probing.prompting import TEMPLATES

    method = PromptingProbe(
        templates=tuple(template or TEMPLATES), words=tuple(word or ()), shots=shots, orders=orders,
        train_texts=train_texts, dev_texts=dev_texts, test_texts=test_texts, prefix=prefix, prefix_epochs=prefix_epochs,
        prefix_rate=prefix_rate, random_models=random_models, seed=common.seed,
    )  # fmt: skip
    probed(method, model, read(str(data), text=text, label=label, group=group), data, common)


@grouped
def prompt_search(
    *,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="A folder with facts.jsonl and patterns.jsonl, as ParaRel's.")
    ],
    relation: Annotated[
        list[str] | None, typer.Option(help="A relation; give it again for more (default: the first five).")
    ] = None,
    facts: Annotated[int, typer.Option(min=6, help="Most facts of each relation.")] = 60,
    steps: Annotated[int, typer.Option(min=1, help="Slots that the discrete search tries.")] = 20,
    candidates: Annotated[int, typer.Option(min=1, help="Tokens whose loss it takes at each.")] = 10,
    vector_steps: Annotated[int, typer.Option(min=1, help="Of Adam, in the continuous search.")] = 30,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 0.01,
    slots: Annotated[int, typer.Option(min=1, help="Of the prompt at most.")] = 5,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Texts to mine patterns from, a table; give it again for more."),
    ] = None,
    corpus_text: Annotated[str, typer.Option(metavar="COL", help="Column of the texts of --corpus.")] = "text",
    mined: Annotated[int, typer.Option(min=1, help="Most patterns of a relation that are mined.")] = 10,
    model: o.Model = "smollm2",
    masked: Annotated[bool, typer.Option("--masked", help="Load an encoder with its masked head.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts of a forward pass.")] = 16,
    random_models: RandomModels = 2,
    common: Common,
) -> None:
    """Search for the prompt that completes facts best, and search where nothing is known.

    Example:

        tracemend probe prompt-search --model smollm2 --data pararel --relation P36 --out runs/searched
    """
    from tracemend.data import read_facts, read_texts
    from tracemend.probing import PromptSearch

    method = PromptSearch(
        relations=tuple(relation or ()), facts=facts, steps=steps, candidates=candidates, vector_steps=vector_steps,
        learning_rate=learning_rate, slots=slots, mined=mined, batch_size=batch_size, random_models=random_models,
        seed=common.seed,
    )  # fmt: skip
    given = read_facts(data)
    if corpus:
        with o.columns_of(options={"text": "--corpus-text"}):
            given = given.with_texts(text for path in corpus for text, _ in read_texts(str(path), text=corpus_text))
    probed(method, model, given, data, common, masked=masked)
