"""The application: its commands, in the order of a reader's first hour."""

from __future__ import annotations

import inspect
import io
import os
import sys
import warnings
from typing import Annotated

import typer

import tracemend
from tracemend.cli import (
    bench,
    circuits,
    concepts,
    corrupt,
    demo,
    detect,
    export,
    mend,
    methods,
    models,
    neurons,
    predict,
    probe,
    repair,
    report,
    review,
    saliency,
    store,
    studio,
    trace,
    tune,
    undo,
)
from tracemend.cli.faults import INTERRUPTED, Guarded, say

app = typer.Typer(
    name="tracemend",
    cls=Guarded,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find the training labels behind a classifier's errors, repair them, and show what that recovered.",
)

for module in (
    demo, repair, tune, predict, trace, saliency, detect, report, studio, export, review, undo,
    corrupt, models, methods,
):  # fmt: skip
    name = module.__name__.rpartition(".")[2]
    app.command(name)(getattr(module, name))
app.add_typer(store.store, name="store")
app.add_typer(bench.bench, name="bench")
app.add_typer(mend.mend, name="mend")
app.add_typer(probe.probe, name="probe")
app.add_typer(neurons.neurons, name="neurons")
app.add_typer(concepts.concepts, name="concepts")
app.add_typer(circuits.circuits, name="circuits")


def _flow(commands: typer.Typer) -> None:
    """Let the window break the lines of a help text, not the docstring that it is."""
    for command in commands.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(p if p.startswith(" ") else p.replace("\n", " ") for p in paragraphs)
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _flow(group.typer_instance)


_flow(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tracemend {tracemend.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="TRACEMEND_DEBUG", help="Show the traceback of an unexpected fault.")
    ] = False,
) -> None:
    del version
    if not debug:
        # What a library warns its programmers of is no message to a user.
        warnings.simplefilter("ignore")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def _write_utf_8() -> None:
    """Let a file or a pipe hold any text: in another encoding, its locale's, some characters have no place."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            stream.reconfigure(encoding="utf-8", errors=stream.errors)


def main() -> None:
    """The console script ``tracemend``."""
    _write_utf_8()
    try:
        app()
    except KeyboardInterrupt:  # before or after a command, where typer does not look
        say(INTERRUPTED)
        sys.exit(130)
