"""Which of several processes this one is."""

from __future__ import annotations

import os
from typing import NamedTuple

from tracemend.errors import TraceError


class Rank(NamedTuple):
    """Process ``number``, counted from 0, of ``world`` that work on the same thing."""

    number: int
    world: int

    def owns(self, item: int) -> bool:
        """Whether this process is the first to take the item with this number."""
        return item % self.world == self.number


def rank() -> Rank:
    """What ``RANK`` and ``WORLD_SIZE`` say, which ``accelerate launch`` and ``torchrun`` set; else the only process.

    No process group is started: the processes meet in the file system alone.

    Raises:
        TraceError: the variables are no numbers, or do not fit together.

    Example:
        >>> rank()
        Rank(number=0, world=1)
    """
    found, size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if found is None and size is None:
        return Rank(0, 1)
    try:
        made = Rank(int(found or ""), int(size or ""))
    except ValueError:
        raise TraceError(f"RANK is {found!r} and WORLD_SIZE is {size!r}; set both to numbers, or neither.") from None
    if not 0 <= made.number < made.world:
        raise TraceError(f"RANK is {found} and WORLD_SIZE is {size}; ranks are counted from 0 to WORLD_SIZE - 1.")
    return made
