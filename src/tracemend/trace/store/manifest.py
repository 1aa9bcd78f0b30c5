"""What a store holds and what that depends on: its identity, its table of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.data import Examples
from tracemend.errors import TraceError, TuningError
from tracemend.progress import Progress
from tracemend.runs import fingerprint
from tracemend.trace.gradients.collect import Precision, Way
from tracemend.trace.gradients.projection import Projection
from tracemend.trace.store.shards import digest
from tracemend.tuning import Adapted, Checkpoint
from tracemend.tuning.checkpoints import BETA2

SCHEMA = 2
COLUMNS = ("row", "uid", "label", "length", "shard", "text", "depth", "origin", "place")
# Examples whose token ids stand for how the classifier writes its prompts.
_WRITTEN = 8
_CHUNK = 4096


def hashes(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """The first 8 bytes of each text's sha256 as a number [n]."""
    raw = b"".join(hashlib.sha256(text.encode()).digest()[:8] for text in texts)
    return np.frombuffer(raw, dtype="<i8").astype(np.int64)


def text_hashes(data: Examples) -> npt.NDArray[np.int64]:
    """A hash of each example's texts, never of its label [n]."""
    return hashes([text if reply is None else f"{text}\x1f{reply}" for text, reply in data.pairs])


def label_names(data: Examples) -> list[str]:
    """The label of each example [n]; empty where examples have none."""
    return [data.labels[i] if data.labels else "" for i in data.y]


def identity(
    classifier: Adapted,
    data: Examples,
    checkpoints: Sequence[Checkpoint],
    *,
    dtype: str,
    precision: Precision,
    batch_size: int,
    method: Way,
    projection: Projection | None = None,
) -> dict[str, Any]:
    """All that the numbers in a store depend on.

    Raises:
        TraceError: there is no checkpoint.
    """
    if not checkpoints:
        raise TraceError("a store needs at least one checkpoint; none was given.")
    return {
        "schema": SCHEMA,
        "loss": classifier.loss,
        "dtype": dtype,
        "precision": precision,
        "batch_size": batch_size,
        "method": method,
        "projection": None if projection is None else projection.config,
        "labels": list(classifier.labels),
        "fingerprints": {
            "model": classifier.language_model.fingerprint,
            "adapter": _adapter(classifier),
            "tokenizer": _tokenizer(classifier),
            "data": _sha([text_hashes(data), np.asarray(data.y)], [*data.labels, *data.uid]),
        },
        "checkpoints": [
            {
                **{"step": c.step, "lr_sum": c.lr_sum, "parameters": digest(c.load_state(), {})[:16]},
                "moments": _moments(c),
                **({} if c.beta2 == BETA2 else {"beta2": c.beta2}),
            }
            for c in checkpoints
        ],
    }


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what two identities differ, a phrase each; hashes are named, not shown."""
    found = []
    for key, value in now.items():
        old = there.get(key)
        if fingerprint(old) == fingerprint(value):
            continue
        if key == "fingerprints":
            names = [name for name in value if (old or {}).get(name) != value[name]]
            found.append(f"other {' and '.join(names)}")
        elif key == "checkpoints":
            found.append(_checkpoints(old or [], value))
        else:
            found.append(f"{key}: there {old!r}, now {value!r}")
    return found


def _checkpoints(there: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> str:
    steps = [[c.get("step") for c in one] for one in (there, now)]
    if steps[0] != steps[1]:
        return f"checkpoints: there of steps {steps[0]}, now of steps {steps[1]}"
    other = [str(old["step"]) for old, new in zip(there, now, strict=True) if fingerprint(old) != fingerprint(new)]
    return f"checkpoints: other parameters, learning rates or moments at step {', '.join(other)}"


def lengths(classifier: Adapted, data: Examples, progress: Progress) -> npt.NDArray[np.int64]:
    """How many tokens each example has [n]."""
    pairs = data.pairs
    found = [
        len(row)
        for start in progress.track(range(0, len(pairs), _CHUNK), task="measure lengths")
        for row in classifier.encode(pairs[start : start + _CHUNK])[0]
    ]
    return np.array(found, dtype=np.int64)


def row_table(data: Examples, tokens: npt.NDArray[np.int64], shard_rows: int) -> pd.DataFrame:
    """The table of rows of a store without a parent: sorted by length, so that a shard makes even batches."""
    order = np.argsort(tokens, kind="stable")
    here = np.arange(len(order))
    return pd.DataFrame(
        {
            "row": order,
            "uid": np.array(data.uid, dtype=object)[order],
            "label": np.array(label_names(data), dtype=object)[order],
            "length": tokens[order],
            "shard": here // shard_rows,
            "text": text_hashes(data)[order],
            "depth": np.zeros(len(order), dtype=np.int64),
            "origin": here // shard_rows,
            "place": here % shard_rows,
        }
    )


def table_hash(rows: pd.DataFrame) -> str:
    """Sha256 (16 hex digits) over the content of a table of rows."""
    numbers = [rows[c].to_numpy(dtype=np.int64) for c in COLUMNS if c not in ("uid", "label")]
    return _sha(numbers, [*rows["uid"], *rows["label"]])


def store_id(manifest: Mapping[str, Any]) -> str:
    """What marks a store's shards as its own: a hash over the manifest, without where its parent lies."""
    parent = manifest["parent"]
    facts = {key: value for key, value in manifest.items() if key not in ("id", "versions", "parent")}
    return fingerprint(facts, None if parent is None else parent["id"])


def _sha(arrays: Sequence[npt.NDArray[Any]], names: Sequence[str]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(array.astype("<i8").tobytes())
    found.update("\x1e".join(names).encode())
    return found.hexdigest()[:16]


def _adapter(classifier: Adapted) -> str:
    config = classifier.network.active_peft_config.to_dict()
    # Where the model lay says nothing of what it is. Sets have no order, and fields may hold objects of PEFT's own.
    for passing in ("base_model_name_or_path", "revision", "peft_version"):
        config.pop(passing, None)
    return fingerprint({key: sorted(v) if isinstance(v, set) else str(v) for key, v in config.items()})


def _tokenizer(classifier: Adapted) -> str:
    tokenizer = classifier.language_model.tokenizer
    # What a prompt around a text looks like shows in any text.
    written, _ = classifier.encode([(f"text {i}", reply) for i in range(_WRITTEN) for reply in (None, "reply")])
    return fingerprint(tokenizer.backend_tokenizer.to_str(), classifier.max_length, written)


def _moments(checkpoint: Checkpoint) -> str | None:
    try:
        found = checkpoint.second_moments()
    except TuningError:  # saved without its optimizer: only Adam-preconditioned scores need them
        return None
    return digest(found, {})[:16] if found else None
