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


# As accelerate and torchrun, Intel MPI and MPICH, Open MPI, MVAPICH name them.
_NAMES = (
    ("RANK", "WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
)


def rank() -> Rank:
    """What ``RANK`` and ``WORLD_SIZE`` say, which ``torchrun`` and ``accelerate launch`` set; else the only process.

    MPI's variables are read too. No process group is started: the processes meet in the file system alone.

    Raises:
        TraceError: the variables are no numbers, or do not fit together.

    Example:
        >>> rank()
        Rank(number=0, world=1)
    """
    for names in _NAMES:
        found, size = (os.environ.get(name) for name in names)
        if found is None and size is None:
            continue
        said = f"{names[0]} is {found!r} and {names[1]} is {size!r}"
        try:
            made = Rank(int(found or ""), int(size or ""))
        except ValueError:
            raise TraceError(f"{said}; set both to numbers, or neither.") from None
        if not 0 <= made.number < made.world:
            raise TraceError(f"{said}; ranks are counted from 0 to {names[1]} - 1.")
        return made
    return Rank(0, 1)
