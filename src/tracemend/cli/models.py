"""``tracemend models``: the models that need no network, and how to name others."""

from __future__ import annotations

from tracemend.cli import options as o
from tracemend.cli.output import person, print_json, print_table

HOW = """
--model takes one of these names, or
  a folder that save_pretrained wrote: config.json, safetensors weights and a tokenizer
  a hub id such as google/bert_uncased_L-2_H-128_A-2, fetched once
Encoders get a head; decoders and encoder-decoders classify by a word for each label. Pickle weights are refused."""


def models(json: o.Json = False) -> None:
    """List the embedded models, whether they are installed, and how to name others.

    Example:

        tracemend models
    """
    import pandas as pd

    from tracemend.models import embedded

    rows = [
        {
            "name": model.name,
            "installed": model.installed,
            "summary": model.summary,
            "install": model.install,
        }
        for model in embedded().values()
    ]
    console = person(json=json)
    table = pd.DataFrame(rows)
    table["installed"] = table["installed"].map({True: "yes", False: "no"})
    print_table(console, table, widest=100)
    console.print(HOW, markup=False)
    if json:
        print_json(rows)
