"""``tracemend studio``: a run in the browser."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from tracemend.cli import options as o


def studio(
    run: o.Run,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own demands a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8760,
    token: Annotated[
        str | None, typer.Option(metavar="WORD", help="What a visitor must know; made up where one is needed.")
    ] = None,
) -> None:
    """Look at a run in the browser: its errors, the labels behind them; decide, tune again, compare.

    Prints the address; Ctrl-C ends it. No request leaves the machine.

    Example:

        tracemend studio runs/demo
    """
    from tracemend.errors import RunError

    missing = [name for name in ("psutil", "starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise RunError(f"the studio needs {', '.join(missing)}; install it with: pip install 'tracemend[studio]'")
    from tracemend.studio.app import serve

    serve(run, host=host, port=port, token=token, say=typer.echo)
