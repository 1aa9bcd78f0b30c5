"""Options that belong together are declared once, as a dataclass, and are one parameter of a command."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let typer see each field of a parameter that is a dataclass as an option of its own, in its place.

    Example:
        >>> from tracemend.cli.tune import tune
        >>> [name for name in inspect.signature(tune).parameters if name in ("file", "adapter", "data", "tuning")]
        ['file', 'adapter']
    """
    kinds = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        kind = kinds[name]
        if not dataclasses.is_dataclass(kind):
            parameters.append(option(name, kind, parameter.default))
            continue
        groups[name], of = kind, get_type_hints(kind, include_extras=True)
        parameters += [
            option(field.name, of[field.name], inspect.Parameter.empty if _required(field) else field.default)
            for field in dataclasses.fields(kind)
        ]

    @functools.wraps(command)
    def flat(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in dataclasses.fields(kind)})
        command(**given)

    return taking(flat, parameters)


def taking(command: Any, parameters: Sequence[inspect.Parameter]) -> Callable[..., None]:
    """The same command, which says of itself that it takes these parameters: typer goes by that."""
    command.__signature__ = inspect.Signature(parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    found: Callable[..., None] = command
    return found


def option(name: str, kind: Any, default: Any) -> inspect.Parameter:
    """A parameter that typer makes an option, or an argument, by its annotation."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING
