"""The page of all figures of the probes, from the stored rows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.probes.lines import Line
from tracemend.runs import read_json

HEAD = """# Every figure of the probes

```console
$ {command}
```

"Expected" are measurements of small prototypes of the same methods on the same data, made before these were written;
what is asked for was fixed with them. Found: the mean over seeds, which draw the sentences, start the probes and the
untrained networks, and in brackets the least and the most of them. A line holds where each seed does. Seconds are those
of a core of a machine that did other work as well. What the lines mean, with intervals and the other controls, stands
<<<<<<< HEAD
on the pages of the methods; what is missed and why, in [Results](results.md#probing). In the sections of smollm2
"layer 3" is the layer as far up among its thirty (15; 4 is 20, 6 is 30), and what was expected and asked for is
minilm's.
=======
on the pages of the methods; what is missed and why, in [Results](results.md#probing).

These figures are from before a change of what they measure and stand until they are measured again. "gap",
"pronouns": examples were drawn one by one, now in whole documents; "pronouns" moreover standardised by rows of zeros
where candidates are fewer. "tasks" and "edges", usual label of relation and coreference: that of both spans' texts,
now of the first one's. "patterns", and what is taken by pattern in "pruning": both sentences had the embedding of the
first. "search-P1376", "search-P176": shuffled facts of first_pattern and paraphrase, which are no control of given
wordings, are now left undefined; hard facts also lacked those that prompts from shuffled facts answer.
>>>>>>> fixB
"""

Measure = Callable[..., Mapping[str, float]]


def page(
    rows: Path, benches: Mapping[str, tuple[Measure, Sequence[Line], str | None]], models: Sequence[str], command: str
) -> str:
    """Markdown: a table a benchmark, for each model that has rows of it.

    Args:
        rows: folder of a file a benchmark, model and seed.
        benches: by name: what measures, its lines, its data.
        models: the first is in no file's name.
        command: that prints it.
    """
    parts = [HEAD.format(command=command)]
    for name, (measure, lines, _) in benches.items():
        for model in models:
            of = "" if model == models[0] else f"-{model}"
            paths = [path for seed in range(10) if (path := rows / f"{name}{of}-{seed}.json").exists()]
            if paths:
                found = [read_json(path) for path in paths]
                parts.append(_section(f"{name}{f', {model}' if of else ''}", measure, lines, found))
    return "\n".join(parts)


def _section(name: str, measure: Any, lines: Sequence[Line], found: Sequence[Mapping[str, Any]]) -> str:
    # A benchmark of several relations is one function with an argument.
    about = " ".join((getattr(measure, "func", measure).__doc__ or "").split())
    sizes = ", ".join(f"--{option} {value}" for option, value in found[0]["settings"].items())
    seeds = f"{len(found)} seed{'s' if len(found) > 1 else ''}"
    seconds = statistics.mean(one["seconds"] for one in found)
    said = f"{about} {seeds}{f', {sizes}' if sizes else ''}; {seconds:.0f} s each.".strip()
    table = ["| line | expected | found | asked | |", "| --- | --- | --- | --- | --- |"]
    for line in lines:
        values = [one["figures"][line.name] for one in found if line.name in one["figures"]]
        if values:
            spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
            asked, holds = _asked(line, values)
            table.append(f"| {line.name} | {line.sheet} | {statistics.mean(values):.3f}{spread} | {asked} | {holds} |")
    return "\n".join([f"## {name}", "", said, "", *table, ""])


def _asked(line: Line, values: Sequence[float]) -> tuple[str, str]:
    bounds = [
        f"{word} {bound:g}" for word, bound in (("at least", line.low), ("at most", line.high)) if bound is not None
    ]
    if not bounds:
        return "", ""
    return ", ".join(bounds), "holds" if line.holds(values) else "**missed**"
