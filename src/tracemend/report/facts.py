"""What a run was made from, as lists of name and value under their headings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tracemend.report import numbers


def facts(result: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Data, model, run, versions, configuration and fingerprints of a ``result.json``; what is missing is left out."""

    def part(name: str) -> dict[str, Any]:
        found = result.get(name)
        return dict(found) if isinstance(found, Mapping) else {}

    data, model = part("data"), part("model")
    sizes = {f"{name} examples": numbers.count(n) for name, n in (data.get("sizes") or {}).items() if n is not None}
    labels = ", ".join(str(label) for label in data.get("labels") or [])
    further = {k: _plain(v) for k, v in data.items() if k not in ("name", "labels", "positive", "sizes")}
    seeds = result.get("seeds")
    found: dict[str, dict[str, Any]] = {
        "Data": {
            "name": data.get("name"),
            "labels": labels,
            "positive label": data.get("positive") if len(data.get("labels") or []) <= 2 else None,
            **sizes,
            **further,
        },
        "Model": {name.replace("_", " "): _plain(value) for name, value in model.items()},
        "Run": {
            **(
                {k if k == "seed" else f"seed of {k}": _plain(v) for k, v in seeds.items()}
                if isinstance(seeds, Mapping)
                else {}
            ),
            "seeds": _plain(seeds) if isinstance(seeds, list | int) else None,
            "took": numbers.duration(result.get("seconds")),
            "status": result.get("status"),
        },
        "Versions": {k: str(v) for k, v in part("versions").items()},
        "Configuration": _flat(part("config")),
        "Fingerprints": {k: str(v) for k, v in part("fingerprints").items()},
    }
    stated = {h: {k: str(v) for k, v in facts.items() if v not in (None, "")} for h, facts in found.items()}
    return {heading: facts for heading, facts in stated.items() if facts}


def _flat(config: Mapping[str, Any], under: str = "") -> dict[str, str]:
    """Nested configuration as one list: ``tuning.adapter``."""
    found: dict[str, str] = {}
    for name, value in config.items():
        nested = isinstance(value, Mapping) and value
        found |= _flat(value, f"{under}{name}.") if nested else {f"{under}{name}": _plain(value)}
    return found


def _plain(value: Any) -> str:
    """A JSON value as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return numbers.count(value)
    if isinstance(value, list) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(str(v) for v in value)
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False)
    return "none" if value is None else str(value)
