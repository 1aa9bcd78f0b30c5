"""The reference data sets of benchmarks and tests, from the folder that ``TRACEMEND_DATA`` names."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from tracemend.data.readers import read
from tracemend.data.schema import Labelled
from tracemend.errors import DataError, did_you_mean

# Sets that lie in another's folder.
_FOLDERS = {"diasafety-category": "diasafety"}


def reference(name: str) -> Labelled:
    """One of the sets in ``REFERENCES``, all its published parts together.

    The column ``part`` says where a row was published (train, validation, test). Parts are best made anew with
    :func:`~tracemend.data.make_splits`: in diasafety contexts and in hatemoji contrast twins cross the published
    ones, which is why they are groups here.

    Args:
        name: surge-toxicity, hate_stormfront, openai-moderation (positive: any flag), sst2, diasafety (context and
            response, group: context), diasafety-category (the same texts, five labels: what is unsafe about a reply or
            would be), hatemoji (group: an entry and its contrast twins), convabuse (agent and user
            turn; label: majority; columns annotator_1 to annotator_8 hold the votes; group: conversation),
            uci_sentiment_sentences, or hatecheck (columns annotator_1 to annotator_10 hold the votes; group: template).

    Raises:
        DataError: unknown name, or the files are not there.
    """
    if name not in REFERENCES:
        raise DataError(f"the reference set {name!r} is {did_you_mean(name, REFERENCES)}")
    return REFERENCES[name](reference_folder(name))


def reference_folder(name: str) -> Path:
    """Where the files of a reference set lie.

    Raises:
        DataError: they are not there.
    """
    folder = available_folder(name)
    if folder is None:
        raise DataError(
            f"the reference set {name!r} is not here; set TRACEMEND_DATA to the folder that holds {name}/ "
            f"(now {os.environ.get('TRACEMEND_DATA', 'not set')})."
        )
    return folder


def available(name: str) -> bool:
    """Whether the files of this reference set are there; tests and benchmarks skip where they are not."""
    return available_folder(name) is not None


def available_folder(name: str) -> Path | None:
    """The folder of a reference set, also of one that is no table of labelled texts; None where it is not here."""
    named = os.environ.get("TRACEMEND_DATA")
    folder = Path(named) / _FOLDERS.get(name, name) if named else None
    return folder if folder is not None and folder.is_dir() else None


def _surge_toxicity(folder: Path) -> Labelled:
    return read(folder / "toxicity_en.csv", text="text", label="is_toxic", positive="Toxic")


def _hate_stormfront(folder: Path) -> Labelled:
    frame = _parts(folder, {"train": "sampled_train.csv", "test": "sampled_test.csv"})
    return read(frame, text="text", label="label", positive="hate")


def _openai_moderation(folder: Path) -> Labelled:
    with gzip.open(folder / "samples-1680.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    # A missing flag is unknown; "any flag" counts the known ones.
    flagged = ["flagged" if any(v == 1 for k, v in row.items() if k != "prompt") else "fine" for row in rows]
    frame = pd.DataFrame({"text": [row["prompt"] for row in rows], "label": flagged})
    return read(frame, text="text", label="label", positive="flagged")


def _sst2(folder: Path) -> Labelled:
    rows = []
    for part, file in {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}.items():
        for line in (folder / file).read_text(encoding="utf-8").removesuffix("\n").split("\n"):
            sentence, label = line.split("\t")
            rows.append((sentence, "positive" if label == "1" else "negative", part))
    frame = pd.DataFrame(rows, columns=["text", "label", "part"])
    return read(frame, text="text", label="label", positive="positive")


def _diasafety(folder: Path, label: str = "label", positive: str | None = "Unsafe") -> Labelled:
    frames = [
        pd.DataFrame(json.loads((folder / file).read_text(encoding="utf-8"))).assign(part=part)
        for part, file in {"train": "train.json", "validation": "val.json", "test": "test.json"}.items()
    ]
    frame = pd.concat(frames, ignore_index=True)
    frame["group"] = frame["context"]
    return read(frame, text="context", reply="response", label=label, group="group", positive=positive, drop_empty=True)


def _hatemoji(folder: Path) -> Labelled:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    files = {"train": "build_train.csv", "validation": "build_validation.csv", "test": "build_test.csv"}
    frame = _parts(folder, files)
    position = {entry: row for row, entry in enumerate(frame["entry_id"])}
    twins = [position.get(twin, row) for row, twin in enumerate(frame["matched_id"])]
    links = coo_matrix((np.ones(len(frame)), (np.arange(len(frame)), twins)), shape=(len(frame), len(frame)))
    _, components = connected_components(links, directed=False)
    frame["label"] = frame["label_gold"].map({"1": "hateful", "0": "not hateful"})
    frame["group"] = [f"twins-{component}" for component in components]
    return read(frame, text="text", label="label", group="group", positive="hateful")


def _convabuse(folder: Path) -> Labelled:
    frame = _parts(folder, {"train": "train.csv", "validation": "valid.csv", "test": "test.csv"})
    votes = pd.DataFrame({f"annotator_{n}": _severity_vote(frame, n) for n in range(1, 9)})
    abusive = (votes == "abusive").sum(axis=1)
    voted = votes.notna().sum(axis=1)
    table = pd.DataFrame(
        {
            "context": frame["agent"],
            "user": frame["user"],
            "label": np.where(abusive > voted / 2, "abusive", "not abusive"),
            "group": frame["bot"] + " " + frame["conv_id"],
            "part": frame["part"],
        }
    )
    return read(
        pd.concat([table, votes], axis=1),
        text="context",
        reply="user",
        label="label",
        group="group",
        positive="abusive",
    )


def _uci_sentiment_sentences(folder: Path) -> Labelled:
    rows = []
    for part in ("amazon_cells", "imdb", "yelp"):
        # Not splitlines: one file holds other line breaks within its sentences.
        for line in (folder / f"{part}_labelled.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n"):
            sentence, _, label = line.rpartition("\t")
            rows.append((sentence.strip(), "positive" if label.strip() == "1" else "negative", part))
    frame = pd.DataFrame(rows, columns=["text", "label", "part"])
    return read(frame, text="text", label="label", positive="positive")


def _hatecheck(folder: Path) -> Labelled:
    frame = pd.read_csv(folder / "test_suite_cases.csv", dtype=object)
    votes = pd.read_csv(folder / "all_annotations.csv", dtype=object).drop_duplicates("case_id").set_index("case_id")
    found = {f"annotator_{n}": votes[f"label_{n}"].reindex(frame["case_id"]).to_numpy() for n in range(1, 11)}
    table = pd.DataFrame(
        {
            "text": frame["test_case"],
            "label": frame["label_gold"],
            "group": "template " + frame["templ_id"],
            "functionality": frame["functionality"],
            **{name: [None if pd.isna(vote) else vote for vote in column] for name, column in found.items()},
        }
    )
    return read(table, text="text", label="label", group="group", positive="hateful")


def _severity_vote(frame: pd.DataFrame, annotator: int) -> list[str | None]:
    """One annotator's vote on each row: abusive where the severity is negative, None where there is none."""
    severities = (1, 0, -1, -2, -3)
    columns = frame[[f"Annotator{annotator}_is_abuse.{severity}" for severity in severities]]
    found: list[str | None] = []
    for cells in columns.itertuples(index=False, name=None):
        # "1, 0" is from an annotator who answered twice; like the publishers' majority, no vote is taken from it.
        ticked = [severity for severity, cell in zip(severities, cells, strict=True) if cell == "1"]
        found.append(None if not ticked else "abusive" if ticked[0] < 0 else "not abusive")
    return found


def _parts(folder: Path, files: dict[str, str]) -> pd.DataFrame:
    """CSV files one after another with the column ``part``, every cell as text."""
    # pandas, since it bears with the two columns of one name in convabuse.
    frames = [pd.read_csv(folder / f, dtype=object, keep_default_na=False, na_values=[""]) for f in files.values()]
    parts = np.repeat(list(files), [len(frame) for frame in frames])
    return pd.concat([pd.concat(frames, ignore_index=True), pd.Series(parts, name="part")], axis=1)


REFERENCES: dict[str, Callable[[Path], Labelled]] = {
    "surge-toxicity": _surge_toxicity,
    "hate_stormfront": _hate_stormfront,
    "openai-moderation": _openai_moderation,
    "sst2": _sst2,
    "diasafety": _diasafety,
    "diasafety-category": partial(_diasafety, label="category", positive=None),
    "hatemoji": _hatemoji,
    "convabuse": _convabuse,
    "uci_sentiment_sentences": _uci_sentiment_sentences,
    "hatecheck": _hatecheck,
}
