"""What every command of ``tracemend mend`` prints at its end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tracemend.cli.output import person, print_notes, print_result, print_run, print_table

if TYPE_CHECKING:
    from tracemend.mend.arms import MendResult


def show_arms(found: MendResult, folder: Path, *, json: bool) -> None:
    """Figures with one column an arm, the findings and the files, or the result as JSON."""
    console = person(json=json)
    console.print("On the verdict part:", markup=False)
    print_table(console, found.arms().rename_axis("figure").reset_index())
    print_notes(console, list(found.findings))
    print_run(console, folder)
    if json:
        print_result(folder)
