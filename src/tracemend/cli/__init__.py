"""The command line: one thin file a command, typer for the options, rich for what is shown.

``main`` is the console script. The rooms that do the work are imported by the commands that need them.
"""

from __future__ import annotations

from tracemend.cli.app import app, main

__all__ = ["app", "main"]
