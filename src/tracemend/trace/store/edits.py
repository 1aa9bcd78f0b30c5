"""Edited data: a child store that holds what changed and points to its parent for the rest."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tracemend.data import Examples
from tracemend.errors import RunError, TraceError
from tracemend.progress import Progress
from tracemend.trace.gradients.projection import Projection
from tracemend.trace.store.build import begin, fill
from tracemend.trace.store.claims import Claims
from tracemend.trace.store.manifest import COLUMNS, differences, identity, label_names, lengths, text_hashes
from tracemend.tuning import Adapted, Checkpoint

if TYPE_CHECKING:
    from tracemend.trace.store.store import GradientStore

# An example is the same where all of these are.
_SAME = ["uid", "label", "text"]


def edit(
    parent: GradientStore,
    path: Path,
    classifier: Adapted,
    data: Examples,
    checkpoints: Sequence[Checkpoint],
    *,
    patience: float,
    progress: Progress,
) -> GradientStore:
    """See :meth:`GradientStore.edited`."""
    if not len(data):
        raise TraceError("there are no examples left to trace.")
    if path.resolve() in [store.path.resolve() for store in parent.chain]:
        raise TraceError(f"{path} is the store that is edited, or one it was edited from; name another folder.")
    made = {key: parent.manifest[key] for key in ("dtype", "precision", "batch_size", "method")}
    wanted = identity(classifier, data, checkpoints, projection=Projection.of(parent.manifest), **made)
    own_data = {**parent.manifest["fingerprints"], "data": wanted["fingerprints"]["data"]}
    found = differences({**parent.manifest, "fingerprints": own_data}, wanted)
    if found:
        raise TraceError(
            f"{parent.path} was built with something else ({'; '.join(found)}): what it holds cannot be reused. Give "
            "what it was built with, or build a store of its own."
        )
    for store in parent.chain:
        lacking = sum(len(store.missing(c)) for c in range(len(checkpoints)))
        if lacking:
            raise TraceError(f"{store.path} lacks {lacking} shards; finish building it first.")

    def plan() -> tuple[pd.DataFrame, dict[str, Any]]:
        rows = _rows(parent, classifier, data, progress)
        facts = {
            "way": parent.manifest["way"],
            "layout": parent.manifest["layout"],
            "sizes": parent.manifest.get("sizes"),
            "shard_rows": parent.manifest["shard_rows"],
            "shards": int(rows["shard"].max()) + 1,
            "parent": {"path": _relative(parent.path, path), "id": parent.manifest["id"]},
        }
        return rows, facts

    with Claims(path / ".claims", patience=patience) as claims:
        child: GradientStore = begin(type(parent), path, wanted, plan, claims)
        if child.parent is None or child.parent.manifest["id"] != parent.manifest["id"]:
            raise TraceError(f"{path} was not edited from {parent.path}; name another folder. Nothing was changed.")
        fill(child, classifier, data, checkpoints, claims=claims, progress=progress)
    return child


def parent_of(kind: type[GradientStore], path: Path, manifest: Mapping[str, Any]) -> GradientStore | None:
    """The store that the one with this manifest was edited from.

    Raises:
        TraceError: it is not where it was, or another one is.
    """
    if manifest["parent"] is None:
        return None
    place = Path(os.path.normpath(path / manifest["parent"]["path"]))
    remedy = (
        "bring it back, or write where it is now, seen from there or in full, into "
        f"{path / 'manifest.json'} as parent.path."
    )
    try:
        parent = kind.open(place)
    except RunError as error:
        raise TraceError(
            f"{path} was edited from the store {place}, which cannot be opened ({error}); {remedy}"
        ) from error
    if parent.manifest["id"] != manifest["parent"]["id"]:
        raise TraceError(f"{path} was edited from another store than the one that is now in {place}; {remedy}")
    return parent


def _rows(parent: GradientStore, classifier: Adapted, data: Examples, progress: Progress) -> pd.DataFrame:
    """First the parents' shards without what was dropped or changed, then own ones, sorted by length."""
    now = pd.DataFrame(
        {"row": range(len(data)), "uid": data.uid, "label": label_names(data), "text": text_hashes(data)}
    )
    there = parent.rows.drop(columns="row").drop_duplicates(_SAME)
    both = now.merge(there, on=_SAME, how="left")
    kept = both[both["shard"].notna()].sort_values(["shard", "place"], kind="stable")
    numbers = {name: kept[name].astype(np.int64) for name in ("length", "shard", "depth", "origin", "place")}
    inherited = kept.assign(**{**numbers, "shard": _dense(numbers["shard"]), "depth": numbers["depth"] + 1})
    own = both[both["shard"].isna()]
    own = own.assign(length=lengths(classifier, data.take(own["row"]), progress)).sort_values("length", kind="stable")
    size, here = int(parent.manifest["shard_rows"]), np.arange(len(own))
    first = int(inherited["shard"].max()) + 1 if len(inherited) else 0
    own = own.assign(shard=first + here // size, depth=0, origin=here // size, place=here % size)
    found = pd.concat([part for part in (inherited, own) if len(part)], ignore_index=True)
    return found[list(COLUMNS)]


def _dense(numbers: pd.Series[int]) -> Any:
    return np.unique(numbers.to_numpy(), return_inverse=True)[1]


def _relative(parent: Path, child: Path) -> str:
    try:
        return os.path.relpath(parent.resolve(), child.resolve())
    except ValueError:  # on another drive
        return str(parent.resolve())
