"""Texts with coloured words: a page of their own, and their part of a run's report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from tracemend.report.environment import environment
from tracemend.runs import atomic

# At run time the saliency room is imported where it is used: it needs torch, a report without coloured words does not.
if TYPE_CHECKING:
    from tracemend.saliency import SaliencyResult

# Texts that a page shows of one result.
SHOWN = 200
SHOWN_IN_REPORT = 20


@dataclass(frozen=True, eq=False)
class Words:
    """A saliency result as shown.

    Attributes:
        result: what was found.
        shown: texts that are shown, of those there are.
    """

    result: SaliencyResult
    shown: int

    @property
    def title(self) -> str:
        """``Words by integrated gradients``."""
        method = str(self.result.config["method"]).partition(".")[2]
        return f"Words by {method.replace('-', ' ')}"

    @property
    def html(self) -> Markup:
        """The coloured texts."""
        return self.result.html(range(min(self.shown, len(self.result))))

    @property
    def unshown(self) -> int:
        """Texts that are left out."""
        return max(0, len(self.result) - self.shown)

    @property
    def checked(self) -> int:
        """Texts that the faithfulness was measured on."""
        return int(self.result.examples["comprehensiveness"].notna().sum())


def write_words(result: SaliencyResult, path: Path) -> Path:
    """Write the coloured texts as a page that opens from disk, with no network and no script.

    Raises:
        RunError: the disk is full or not writable.
    """
    page = environment().get_template("saliency.html").render(found=Words(result, SHOWN), style=style())
    with atomic(path) as file:
        file.write(page.encode("utf-8", "replace").decode("utf-8"))
    return path


def style() -> Markup:
    """The style sheet of coloured texts."""
    from tracemend.saliency import STYLE

    return Markup(STYLE)


def words_of_run(run: Path) -> list[Words]:
    """What ``tracemend saliency`` kept in a run, the newest of each method, by name."""
    if not (run / "saliency").is_dir():
        return []
    from tracemend.saliency.run import saved

    newest = {str(result.config["method"]): result for result in saved(run)}
    return [Words(result, SHOWN_IN_REPORT) for _, result in sorted(newest.items())]
