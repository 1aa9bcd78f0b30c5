"""One contract for every method, and the registry of their names.

A method is a frozen dataclass: its fields are the command line's flags, the ``config`` of result.json and what
replays the run. It registers itself by being defined with a name.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import pandas as pd

from tracemend.errors import (
    CircuitError,
    ConceptError,
    NeuronError,
    ProbeError,
    RunError,
    TraceError,
    TracemendError,
    TuningError,
    did_you_mean,
)
from tracemend.fields import check_fields
from tracemend.progress import Progress
from tracemend.runs import as_json, read_json, write_json, write_parquet

# Rooms that hold methods; imported only when somebody asks for the registry.
ROOMS = ("trace", "saliency", "probing", "neurons", "concepts", "circuits", "mend")


@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """What a method found, with its control in the same units.

    Attributes:
        metrics: the figures.
        controls: the same figures for the control arm; with several arms, one mapping of figures for each.
        config: the method's name and configuration: what replays it.
        rows: the table behind the figures.
        findings: sentences for a person; where a control is as good as the result, they say so.
        facts: sizes, what was chosen, model and data: what the figures are about; as JSON has them, so that they are
            the same before and after the disk (a list, never a tuple; None where a figure was not defined).

    Class attributes:
        tables: fields that hold a further table, each kept as ``NAME.parquet``.
    """

    tables: ClassVar[tuple[str, ...]] = ()

    metrics: Mapping[str, float]
    controls: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    findings: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", as_json(self.facts))

    def table(self) -> pd.DataFrame:
        """The rows behind the figures, best first."""
        return self.rows.copy()

    def figure(self) -> Any:
        """A matplotlib figure: metrics beside their controls."""
        from matplotlib.figure import Figure

        names = list(self.metrics)
        arms = {arm: of for arm, of in self.controls.items() if isinstance(of, Mapping)}
        # Of one arm, or of several by name.
        beside = arms or {"control": self.controls}
        table = pd.DataFrame(
            {"found": self.metrics, **{arm: {name: of.get(name) for name in names} for arm, of in beside.items()}},
            index=names,
        ).astype(float)
        bars = max(1, len(names)) * table.shape[1]
        longest = max((len(name) for name in names), default=0)
        # Long names must leave room for the bars: a letter is a twelfth of an inch wide.
        figure = Figure(figsize=(max(6.0, 4.0 + longest / 12), 0.6 + 0.22 * bars), layout="constrained")
        axes = figure.subplots()
        greys = [str(shade) for shade in np.linspace(0.55, 0.85, len(beside))]
        table.plot.barh(ax=axes, color=["#2f6f8f", *greys], width=0.8)
        axes.invert_yaxis()
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        return figure

    def save(self, directory: Path | str) -> Path:
        """Write ``method.json``, ``rows.parquet`` and the further tables; :meth:`load` reads them back."""
        path = Path(directory)
        kept = {name: dict(getattr(self, name)) for name in ("metrics", "controls", "config", "facts")}
        for name in ("rows", *self.tables):
            write_parquet(path / f"{name}.parquet", getattr(self, name))
        write_json(path / "method.json", {**kept, "findings": list(self.findings)})
        return path

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            RunError: a file is missing or damaged.
        """
        return cls(**cls._read(Path(directory)))

    @classmethod
    def _read(cls, path: Path) -> dict[str, Any]:
        """The fields by name; one that ``save`` writes more of reads more here."""
        facts = read_json(path / "method.json")
        # JSON has no NaN; a figure that was not defined is one again.
        facts |= {name: _figures(facts[name]) for name in ("metrics", "controls")}
        return {**facts, **{name: read_table(path / f"{name}.parquet") for name in ("rows", *cls.tables)}}


def _figures(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: float("nan") if value is None else _figures(value) if isinstance(value, Mapping) else value
        for name, value in kept.items()
    }


def read_table(path: Path) -> pd.DataFrame:
    """A table that a result wrote.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        found = "is missing"
    except (OSError, ValueError) as error:  # pyarrow's own are of these
        found = f"is damaged ({error})"
    raise RunError(
        f"{path} {found}, so the result cannot be read back; delete {path.with_name('result.json')} and give the same "
        "command again: it makes both anew."
    )


R = TypeVar("R", bound=MethodResult)
# What a configuration is refused with, by the family of its method.
_ERRORS: Mapping[str, type[TracemendError]] = {
    "circuits": CircuitError,
    "concepts": ConceptError,
    "mend": TuningError,
    "neurons": NeuronError,
    "probing": ProbeError,
    "saliency": TraceError,
    "trace": TraceError,
}
_REGISTRY: dict[str, type[Method[Any]]] = {}


@dataclass(frozen=True, kw_only=True)
class Method(ABC, Generic[R]):
    """Base of every method; a subclass with ``name`` enters the registry.

    Class attributes:
        name: ``family.method``, stable.
        inputs: what :meth:`run` takes as data: ``"Labelled"``, ``"Splits"``, ``"CompletionSplits"``, ``"Texts"``,
            ``"Run"``, ``"Treebank"``, ``"Pairs"``, ``"Pronouns"``, ``"Spans"``, ``"Facts"``, ``"Contrasts"``,
            ``"PromptPairs"``, ``"Rewrites"``, ``"Repeats"``, ``"Concepts"`` or ``"Corpus"``.
        capabilities: flags such as ``encoder``, ``decoder``, ``encoder-decoder``, ``labels``, ``gradients``.
        in_passing: fields that say how answers are come by and not what is asked, such as a server's address; a run
            goes on where only these differ.
        at_least: the lowest value of a field; a subclass names its own fields, and those of its base count too.
    """

    name: ClassVar[str] = ""
    inputs: ClassVar[str] = "Labelled"
    capabilities: ClassVar[frozenset[str]] = frozenset()
    in_passing: ClassVar[frozenset[str]] = frozenset()
    at_least: ClassVar[Mapping[str, int]] = {}

    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a choice that is none and a number below what makes sense, before anything is loaded."""
        bounds: dict[str, int] = {}
        for kind in reversed(type(self).__mro__):
            bounds |= vars(kind).get("at_least", {})
        check_fields(self, _ERRORS.get(self.name.partition(".")[0], TracemendError), at_least=bounds)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = cls.__dict__.get("name")
        if name:
            known = _REGISTRY.get(name)
            if known is not None and known.__qualname__ != cls.__qualname__:
                raise TypeError(f"two methods are named {name!r}: {known.__qualname__} and {cls.__qualname__}")
            _REGISTRY[name] = cls

    @abstractmethod
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> R:
        """Do it. The same configuration, model and data give the same result."""

    @classmethod
    @abstractmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A configuration, model and data small enough for the contract test (seconds on one core)."""

    @property
    def config(self) -> dict[str, Any]:
        """Name and fields as JSON values."""
        fields: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        return {"method": self.name, **fields}

    @property
    def identity(self) -> dict[str, Any]:
        """What a run must have in common with one that goes on with it: the configuration without ``in_passing``."""
        return {name: value for name, value in self.config.items() if name not in self.in_passing}

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]


def registry() -> dict[str, type[Method[Any]]]:
    """All methods by name, sorted."""
    for name in ROOMS:
        room = import_module(f"tracemend.{name}")
        for public in room.__all__:
            getattr(room, public)  # a room may import its files when they are asked for
    return dict(sorted(_REGISTRY.items()))


def method(name: str) -> type[Method[Any]]:
    """The method of that name.

    Raises:
        TracemendError: no such method; the message names the valid ones.
    """
    known = registry()
    if name not in known:
        raise TracemendError(f"method {name!r} is {did_you_mean(name, known)}")
    return known[name]
