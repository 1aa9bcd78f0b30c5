"""A method that was run by itself, read from its run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.errors import RunError
from tracemend.runs import read_json, read_result


def is_method_run(directory: Path | str) -> bool:
    """Whether a method's result lies there."""
    return (Path(directory) / "method.json").is_file()


@dataclass(frozen=True, eq=False)
class MethodRun:
    """What a method left on disk.

    Attributes:
        path: the run directory.
        result: ``result.json``.
        found: ``method.json``: metrics, controls, findings, facts.
        rows: the table behind the figures.
        figure: SVG; empty where there is none.
    """

    path: Path
    result: Mapping[str, Any]
    found: Mapping[str, Any]
    rows: pd.DataFrame
    figure: bytes

    @classmethod
    def read(cls, directory: Path | str) -> MethodRun:
        """Read a run directory.

        Raises:
            RunError: a file is missing or damaged.
        """
        path = Path(directory)
        figure = path / "figure.svg"
        return cls(
            path,
            read_result(path),
            read_json(path / "method.json"),
            table_of(path, "rows"),
            figure.read_bytes() if figure.exists() else b"",
        )

    @property
    def name(self) -> str:
        """``circuits.logits``."""
        return str(self.found.get("config", {}).get("method") or self.result["command"])

    @property
    def title(self) -> str:
        """``Logits of smollm2 on texts.csv``, as far as the run says of what."""
        what = self.name.rpartition(".")[2].replace("-", " ")
        model, data = (self._part(name).get("name") for name in ("model", "data"))
        title = what[:1].upper() + what[1:] + (f" of {model}" if model else "")
        return title + (f" on {data}" if data else "")

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the control arms."""
        controls = self.found.get("controls", {})
        several = tuple(name for name, of in controls.items() if isinstance(of, Mapping))
        return several or (("control",) if controls else ())

    @property
    def figures(self) -> Sequence[tuple[str, Any, list[Any]]]:
        """Each figure's name, its value, and its value in each control arm."""
        controls = self.found.get("controls", {})
        arms = [controls if arm == "control" and not isinstance(controls.get(arm), Mapping) else controls[arm]
                for arm in self.arms]  # fmt: skip
        return [(name, value, [of.get(name) for of in arms]) for name, value in self.found.get("metrics", {}).items()]

    def _part(self, name: str) -> dict[str, Any]:
        found = self.result.get(name)
        return dict(found) if isinstance(found, Mapping) else {}


def table_of(path: Path, name: str) -> pd.DataFrame:
    """A table of a run.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        return pd.read_parquet(path / f"{name}.parquet")
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path / name}.parquet cannot be read ({error}); give the run's command again with another --out."
        ) from error
