"""What becomes of an error: a message and a status, never a lost run and never a bare traceback."""

from __future__ import annotations

import contextlib
import errno
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from tracemend.errors import TracemendError, did_you_mean

INTERRUPTED = "interrupted; give the same command again to resume"
DISK_FULL = (
    "the disk is full ({error}); what was finished before is unchanged. Free some space and give the same command "
    "again; it resumes."
)


class Guarded(TyperGroup):
    """A group of commands whose errors have a status: 2 bad input, 130 Ctrl-C, 1 an unexpected fault."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and turn what goes wrong into a message on standard error."""
        try:
            return super().invoke(ctx)
        except TracemendError as error:
            say(f"error: {error}")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            say(INTERRUPTED)
            raise typer.Exit(130) from error
        except Exception as error:
            if _is_typers(error) or _is_broken_pipe(error):
                _reword(error)
                raise
            if _is_full_disk(error):
                say(f"error: {DISK_FULL.format(error=error)}")
                raise typer.Exit(2) from error
            if ctx.params.get("debug"):
                traceback.print_exc()
            log = write_log(error, _out(sys.argv))
            say(f"unexpected fault: {type(error).__name__}: {_first_line(error)}\nThe details are in {log}")
            raise typer.Exit(1) from error


def say(message: str) -> None:
    """Write a line to standard error."""
    typer.echo(message, err=True)


def write_log(error: BaseException, out: Path | None) -> Path:
    """Write the traceback into the run directory, where there is one, else into a temporary file."""
    text = "".join(traceback.format_exception(error))
    for folder in _places(out):
        path = folder / f"fault-{time.strftime('%Y%m%d-%H%M%S')}.log"
        with contextlib.suppress(OSError):
            path.write_text(f"{' '.join(sys.argv)}\n\n{text}", encoding="utf-8")
            return path
    return Path("standard error, since no file could be written:\n" + text)


def _places(out: Path | None) -> Iterator[Path]:
    # Only a run's own directory: the file must not turn up among a user's.
    if out is not None and (out / "config.json").exists():
        yield out
    with contextlib.suppress(OSError):
        yield Path(tempfile.mkdtemp(prefix="tracemend-fault-"))


def _out(arguments: list[str]) -> Path | None:
    for here, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if here == "--out" and following:
            return Path(following)
        if here.startswith("--out="):
            return Path(here.removeprefix("--out="))
    return None


def _is_typers(error: Exception) -> bool:
    """Whether typer knows what to do: usage errors, exits, aborts."""
    return type(error).__module__.split(".")[0] in ("typer", "click")


def _reword(error: Any) -> None:
    """Say plainly what is wrong with the value of an option; typer gives the words of its checker, pydantic."""
    details = getattr(error.__cause__, "errors", None)
    if not hasattr(error, "message") or details is None:
        return
    fault = details()[0]
    kind, found, limits = fault["type"], fault.get("input"), fault.get("ctx", {})
    if kind == "value_error" and " is not one of " in error.message:
        valid = re.findall(r"'([^']*)'", error.message.rpartition(" is not one of ")[2])
        error.message = f"{found!r} is {did_you_mean(str(found), valid)}"
    elif kind in ("less_than_equal", "greater_than_equal"):
        error.message = _out_of_range(str(found), limits, _range_of(error))
    elif kind in ("int_parsing", "int_from_float", "float_parsing"):
        error.message = f"{found!r} is no {'whole ' if kind.startswith('int') else ''}number."


def _range_of(error: Any) -> tuple[Any, Any]:
    info = error.param.get_runtime_param().parameter_info if error.param is not None else None
    return getattr(info, "min", None), getattr(info, "max", None)


def _out_of_range(found: str, limits: dict[str, Any], allowed: tuple[Any, Any]) -> str:
    if allowed == (0, 1):
        value = float(found)
        such_as = value / 100 if 1 < value <= 100 else 0.3  # meant as a percentage
        return f"{found} is not a share between 0 and 1, such as {such_as:g}."
    if "ge" in limits:
        return f"{found} is too small; give at least {limits['ge']:g}."
    return f"{found} is too large; give at most {limits['le']:g}."


def _is_broken_pipe(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _is_full_disk(error: BaseException | None) -> bool:
    """Whether the disk is full, also where a library (safetensors, SQLite, Arrow) says so in words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(error) for words in ("No space left on device", "database or disk is full")):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
