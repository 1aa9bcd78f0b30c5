"""``tracemend methods``: the registry."""

from __future__ import annotations

from tracemend.cli import options as o
from tracemend.cli.output import person, print_json, print_table


def methods(json: o.Json = False) -> None:
    """List the methods: name, what each does, what each takes and needs.

    Example:

        tracemend methods --json
    """
    import pandas as pd

    from tracemend.methods import registry

    rows = [
        {"name": name, "summary": found.summary(), "inputs": found.inputs, "capabilities": sorted(found.capabilities)}
        for name, found in registry().items()
    ]
    if json:
        print_json(rows)
        return
    table = pd.DataFrame(rows)
    table["capabilities"] = table["capabilities"].map(", ".join)
    print_table(person(json=False), table, widest=120)
