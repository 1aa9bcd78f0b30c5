"""``tracemend circuits NAME``: the methods of the circuits room, their fields as flags.

A command is made from its method when somebody asks for it, so that the rest of the command line starts without
torch. Only the names stand here again; a test compares them with the registry.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin, get_type_hints

import typer
from typer.core import TyperGroup

from tracemend.cli import options as o
from tracemend.cli.grouped import option, taking
from tracemend.cli.output import command_line, person, print_notes, print_result, print_run, print_table
from tracemend.cli.progress import shown

if TYPE_CHECKING:
    from tracemend.circuits import Circuit
    from tracemend.progress import Progress

    Beside = Callable[[str, Callable[[Path], Any]], Any]

NAMES = (
    "attention",
    "logits",
    "induction",
    "growth",
    "patch",
    "trace-facts",
    "layers",
    "structure",
    "edit",
    "memories",
    "subupdates",
    "features",
    "graph",
    "ngrams",
    "units",
    "families",
    "feature-edges",
)
SHOWN = 10
_METHOD, _DATA = "Method", "Data"


class OnDemand(TyperGroup):
    """A group whose commands are made when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, without importing what they name."""
        return list(NAMES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name not in NAMES:
            return None
        one = typer.Typer()
        one.command(cmd_name)(_command(cmd_name))
        return typer.main.get_command(one)


circuits = typer.Typer(
    cls=OnDemand, no_args_is_help=True, help="Look inside a model: who writes the answer, and what carries it."
)


@circuits.callback()
def _callback() -> None:
    """Look inside a model: who writes the answer, and what carries it."""


def _command(name: str) -> Any:
    """A function with the signature that typer reads: data, the method's fields, model and run."""
    from tracemend.circuits.run import KINDS, circuits

    method = circuits()[name]
    kind = KINDS.get(method.inputs)
    columns = (*kind.columns, *getattr(kind, "further", ())) if kind else ()

    def command(**given: Any) -> None:
        run = {key: given.pop(key) for key in ("model", "out", "json", "quiet")}
        _run(name, method, columns, given, **run)

    parameters = [*_data_parameters(columns), *_field_parameters(method)]
    if method.inputs == "Rewrites":
        words = "CSV, TSV, JSONL or Parquet with text: what else the weights are used for."
        corpus: Any = Annotated[str | None, typer.Option(metavar="FILE", help=words, rich_help_panel=_DATA)]
        parameters.append(option("corpus", corpus, None))
    if name == "feature-edges":
        for side in ("lower", "upper"):
            words = f"Folder of the {side} site's autoencoder: sae in a run of circuits features, or SAELens's."
            folder: Any = Annotated[Path, typer.Option(metavar="FOLDER", help=words, rich_help_panel=_DATA)]
            parameters.append(option(side, folder, inspect.Parameter.empty))
    parameters += [
        option("model", o.Model, "attention-only-2" if name == "growth" else "smollm2"),
        option("out", o.Out, None),
        option("json", o.Json, False),
        option("quiet", o.Quiet, False),
    ]
    data = "--data ioi --count 4" if method.inputs in ("Contrasts", "PromptPairs") else _example(method.inputs)
    if name == "ngrams":
        data = "--model attention-only-1 --data markov"
    if name == "growth":
        data = "--model attention-only-2 --length 20"
    if name == "feature-edges":
        data += " --lower runs/sae-12/sae --upper runs/sae-15/sae"
    command.__doc__ = f"{method.summary()}\n\nExample:\n\n    tracemend circuits {name} {data} --out runs/{name}"
    return taking(command, parameters)


def _example(inputs: str) -> str:
    return {
        "Repeats": "--length 25",
        "Facts": "--data facts.csv",
        "Rewrites": "--data rewrites.csv --corpus texts.csv",
        "Texts": "--data texts.csv",
    }[inputs]


def _run(
    name: str,
    method: type[Circuit[Any]],
    columns: tuple[str, ...],
    given: dict[str, Any],
    *,
    model: str,
    out: Path | None,
    json: bool,
    quiet: bool,
) -> None:
    import pandas as pd

    from tracemend.circuits.run import circuit_run
    from tracemend.method_runs import in_folder
    from tracemend.runs import read_json

    fields = {f.name: f for f in dataclasses.fields(method)}
    configured = method(**{key: _value(fields[key], given.pop(key)) for key in list(given) if key in fields})
    with shown(quiet) as progress:

        def beside(what: str, train: Callable[[Path], Any]) -> Any:
            """What is trained on the spot, kept beside the run: in OUT-WHAT, else as a run without --out is."""
            return in_folder(out and out.with_name(f"{out.name}-{what}"), f"{name}-{what}", train)[0]

        loaded, data = _model_and_data(method, columns, given, model, beside, configured.seed, progress)
        result, folder, said = in_folder(
            out,
            name,
            lambda folder: circuit_run(
                configured, loaded, data, out=folder, command_line=command_line(), progress=progress
            ),
        )
    console = person(json=json)
    print_table(console, pd.read_parquet(folder / "rows.parquet").head(SHOWN))
    console.print()
    controls = result["controls"]
    arms = controls if any(isinstance(v, dict) for v in controls.values()) else {"control": controls}
    rows = [{"figure": n, name: v, **{a: c.get(n) for a, c in arms.items()}} for n, v in result["metrics"].items()]
    print_table(console, pd.DataFrame(rows))
    print_notes(console, [*read_json(folder / "method.json").get("findings", []), *([said] if said else [])])
    console.print()
    print_run(console, folder)
    if json:
        print_result(folder)


def _model_and_data(
    method: type[Circuit[Any]],
    columns: tuple[str, ...],
    given: dict[str, Any],
    model: str,
    beside: Beside,
    seed: int,
    progress: Progress,
) -> tuple[Any, Any]:
    from tracemend.circuits import FeatureTexts, SparseAutoencoder
    from tracemend.circuits.attention_only import SMALL, AttentionOnly, kept_model
    from tracemend.circuits.run import prompts_for
    from tracemend.data.prompts import Texts
    from tracemend.models import load

    if method.inputs == "Repeats":
        return _repeats(method, given, model, beside, seed, progress)
    row = {column: given[column] for column in columns}
    data = prompts_for(method.inputs, given["data"], row, count=given["count"], corpus=given.get("corpus"))
    if model in SMALL and method.name == "circuits.ngrams" and isinstance(data, Texts):
        how, texts = AttentionOnly(layers=SMALL[model], seed=seed), data
        return beside("model", lambda folder: kept_model(how, texts, folder, progress=progress)), data
    if method.name == "circuits.feature-edges" and isinstance(data, Texts):
        data = FeatureTexts.of(data, *(SparseAutoencoder.read(given[side]) for side in ("lower", "upper")))
    return load(model), data


def _repeats(
    method: type[Circuit[Any]], given: dict[str, Any], model: str, beside: Beside, seed: int, progress: Progress
) -> tuple[Any, Any]:
    """A model, or stages of its training, and random tokens said twice; small models are trained on the spot."""
    from tracemend.circuits import Repeats, Stages
    from tracemend.circuits.attention_only import SMALL, AttentionOnly, kept_model
    from tracemend.circuits.growth import copying_source
    from tracemend.circuits.run import prompts_for
    from tracemend.circuits.stages import STEPS, kept_stages
    from tracemend.data.prompts import Texts
    from tracemend.errors import CircuitError
    from tracemend.models import load

    loaded: Any
    grows = method.name == "circuits.growth"
    if model in SMALL:
        texts = (
            prompts_for("Texts", given["data"], {}) if given["data"] else copying_source(seed).texts(6000, seed=seed)
        )
        if not isinstance(texts, Texts):
            raise CircuitError(f"{given['data']} holds no texts; an attention-only model is trained on them.")
        how = [AttentionOnly(layers=n, steps=given["train_steps"] or STEPS, seed=seed) for n in (SMALL[model], 1)]
        keep = kept_stages if grows else kept_model
        loaded = beside("model", lambda folder: keep(how[0], texts, folder, progress=progress))
        if grows and SMALL[model] > 1:
            shallow = beside("one-layer", lambda folder: keep(how[1], texts, folder, progress=progress))
            loaded = loaded.with_beside(shallow)
    elif given["data"] or given["train_steps"]:
        raise CircuitError(
            f"--data and --train-steps are of models that are trained on the spot ({', '.join(SMALL)}); {model} is "
            "trained already. Leave them out."
        )
    else:
        loaded = Stages.read(model) if grows else load(model)
    one = loaded.get(loaded.steps[0]) if isinstance(loaded, Stages) else loaded
    return loaded, Repeats.draw(one, length=given["length"], count=given["texts"], seed=seed)


def _data_parameters(columns: tuple[str, ...]) -> list[inspect.Parameter]:
    def told(kind: Any, words: str, metavar: str | None = None, *, least: int | None = None) -> Any:
        return Annotated[kind, typer.Option(metavar=metavar, help=words, min=least, rich_help_panel=_DATA)]

    if not columns:
        return [
            option("length", told(int, "Random tokens before they are said again.", least=2), 25),
            option("texts", told(int, "How many such texts.", least=1), 16),
            option(
                "data",
                told(
                    str | None,
                    "Texts that attention-only-1 and -2 are trained on (default: ones that are best predicted by "
                    "copying, made on the spot).",
                    "FILE",
                ),
                None,
            ),
            option("train_steps", told(int | None, "Of that training (default 1600).", least=1), None),
        ]
    built_in = "; or ioi or letters, built in" if columns[-1] == "foil" else ""
    if columns == ("text",):
        built_in = "; or markov, ioi or letters (of pairs the clean prompts), built in"
    found = [
        option(
            "data", told(str | None, f"CSV, TSV, JSONL or Parquet with {', '.join(columns)}{built_in}.", "FILE"), None
        ),
        option("count", told(int | None, "Only the first rows.", least=1), None),
    ]
    return found + [option(name, told(str | None, f"In place of a file: the {name}."), None) for name in columns]


def _field_parameters(method: type[Circuit[Any]]) -> list[inspect.Parameter]:
    words, hints = _words(method), get_type_hints(method)
    found = []
    for field in dataclasses.fields(method):
        kind: Any = hints[field.name]
        default: Any = field.default
        if get_origin(kind) is tuple:
            kind, default = str, ",".join(map(str, default))
        annotation: Any = Annotated[kind, typer.Option(help=words.get(field.name, ""), rich_help_panel=_METHOD)]
        found.append(option(field.name, annotation, default))
    return found


def _value(field: dataclasses.Field[Any], given: Any) -> Any:
    if not isinstance(field.default, tuple):
        return given
    kind = type(field.default[0])
    try:
        return tuple(kind(part.strip()) for part in given.split(",") if part.strip())
    except ValueError:
        raise typer.BadParameter(
            f"--{field.name} {given!r}: expected values with commas, such as {field.default}"
        ) from None


def _words(method: type[Any]) -> dict[str, str]:
    """What the docstrings of a method and its bases say of each field."""
    found: dict[str, str] = {"seed": "Of every draw."}
    for kind in reversed(method.__mro__):
        text = inspect.cleandoc(kind.__doc__ or "")
        section = re.search(r"^Attributes:\n((?:    .*\n?|\n)+)", text, flags=re.MULTILINE)
        for name, said in re.findall(
            r"^    (\w+): (.*(?:\n        .*)*)", section.group(1) if section else "", re.MULTILINE
        ):
            found[name] = " ".join(said.split()).replace("``", "")
    return found
