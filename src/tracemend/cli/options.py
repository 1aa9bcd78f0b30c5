"""Options that several commands share, each written down once.

The valid values stand here again, since the rooms that define them are heavy to import; a test compares both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from tracemend.errors import DataError, MissingColumnError, RunError

Adapter = Literal["prompt", "p-tuning", "prefix", "lora", "ia3", "head", "full"]
PrecisionName = Literal["auto", "bf16", "fp32"]

_DATA, _MODEL, _RUN = "Data", "Model and tuning", "Run"


# What is not there is told before a command imports what it works with, which takes seconds.
def _there(name: str | None) -> str | None:
    if name is not None:
        from tracemend.data.sources import refuse_absent

        refuse_absent(name)
    return name


def _run_there(run: Path) -> Path:
    if not run.is_dir():
        raise RunError(f"there is no folder {run}; name the --out directory of a finished run.")
    return run


File = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="CSV, TSV, JSONL, Parquet, a folder of datasets.save_to_disk, or hub:owner/name:split.",
        show_default=False,
        callback=_there,
    ),
]
Run = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="The directory of a finished run.", show_default=False, callback=_run_there),
]
Text = Annotated[str, typer.Option(metavar="COL", help="Column of the text.", rich_help_panel=_DATA)]
Label = Annotated[str, typer.Option(metavar="COL", help="Column of the labels.", rich_help_panel=_DATA)]
Reply = Annotated[
    str | None,
    typer.Option(metavar="COL", help="Column of the second text, the one that is judged.", rich_help_panel=_DATA),
]
Group = Annotated[
    str | None,
    typer.Option(
        metavar="COL", help="Column of author, conversation or the like: none crosses a split.", rich_help_panel=_DATA
    ),
]
Truth = Annotated[
    str | None,
    typer.Option(
        metavar="COL",
        help="Column of the true labels; lets the run measure how many wrong labels it found.",
        rich_help_panel=_DATA,
    ),
]
Valid = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Validation data, its labels checked; half is kept for the verdict. Else a part of FILE is taken.",
        rich_help_panel=_DATA,
        callback=_there,
    ),
]
Test = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Test data; else a part of FILE, or none where --valid is given.",
        rich_help_panel=_DATA,
        callback=_there,
    ),
]
Positive = Annotated[
    str | None,
    typer.Option(
        metavar="LABEL", help="Its average precision is reported; the rarer by default.", rich_help_panel=_DATA
    ),
]
DropEmpty = Annotated[
    bool, typer.Option("--drop-empty", help="Drop rows without text instead of refusing them.", rich_help_panel=_DATA)
]
FixSplits = Annotated[
    bool,
    typer.Option(
        "--fix-splits",
        help="Where given files share groups or texts, drop these rows: from FILE, or from --valid if --test has them.",
        rich_help_panel=_DATA,
    ),
]
Model = Annotated[
    str,
    typer.Option(help="minilm, smollm2, a folder or a hub id; see [b]tracemend models[/b].", rich_help_panel=_MODEL),
]
AdapterKind = Annotated[
    Adapter | None, typer.Option("--adapter", help="Kind of adapter (default lora).", rich_help_panel=_MODEL)
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs at most (default 8).", rich_help_panel=_MODEL)]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Examples of a step (default 16).", rich_help_panel=_MODEL)]
LearningRate = Annotated[
    float | None, typer.Option(help="Highest learning rate (default: the adapter's own).", rich_help_panel=_MODEL)
]
Patience = Annotated[
    int | None,
    typer.Option(
        min=0, help="Epochs without a better validation AP before it stops (default 3); 0 never stops.",
        rich_help_panel=_MODEL,
    ),
]  # fmt: skip
MaxLength = Annotated[
    int | None, typer.Option(min=4, help="Tokens of an example (default 128).", rich_help_panel=_MODEL)
]
VirtualTokens = Annotated[
    int | None, typer.Option(min=1, help="Length of a prompt or prefix (default 10).", rich_help_panel=_MODEL)
]
Precision = Annotated[
    PrecisionName | None,
    typer.Option(help="auto takes bf16 where the processor computes in it.", rich_help_panel=_MODEL),
]
ClassWeights = Annotated[
    bool | None,
    typer.Option(
        "--class-weights", help="Weigh labels inversely to their frequency.", rich_help_panel=_MODEL, show_default=False
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Run directory; resumed where it is there (default runs/FILE).", rich_help_panel=_RUN
    ),
]
Seed = Annotated[
    int, typer.Option(min=0, max=2**31 - 1, help="Seed of splits, tuning and controls.", rich_help_panel=_RUN)
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on with what is in --out. Always done; accepted for scripts.", rich_help_panel=_RUN
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print result.json on standard output, all else on standard error.", rich_help_panel=_RUN
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.", rich_help_panel=_RUN)]
Force = Annotated[bool, typer.Option("--force", help="Replace the file where it is there.")]


@contextmanager
def columns_of(*further: str | None, options: Mapping[str, str] | None = None) -> Iterator[None]:
    """What is said of a missing column inside the block.

    Args:
        further: files beside FILE, whose columns no option names: they are called as those of FILE.
        options: by role, what the command calls the option that names a column, where that is not ``--ROLE``.
    """
    try:
        yield
    except MissingColumnError as error:
        if error.source in further:
            remedy = f"All files of a run name their columns alike: rename the column in {error.source}."
            raise DataError(f"{error.found} {remedy}") from None
        if options and error.role in options:
            raise DataError(error.named_by(options[error.role])) from None
        raise


def run_directory(out: Path | None, file: str) -> Path:
    """Where a run goes: ``--out``, else ``runs/`` and the name of the file without its endings."""
    if out is not None:
        return out
    name = Path(file).name.split(".")[0] or "run"
    return Path("runs") / name.replace(":", "-")
