"""Activations of a site over a corpus, kept in shards: collecting goes on where it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tracemend.circuits.activations import activations
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel, site
from tracemend.models.shards import ShardFile, write_shard
from tracemend.progress import Progress
from tracemend.runs import fingerprint, read_json, write_json

# Rows of tokens in a shard.
_ROWS = 16
_MANIFEST = "manifest.json"


class _ActivationFile(ShardFile):
    error = CircuitError


@dataclass(frozen=True)
class ActivationStore:
    """A folder with the activations of one site of one model on one corpus.

    Attributes:
        folder: made where it is not there.

    Example:
        >>> ActivationStore(Path("runs/acts")).collect(model, "blocks.15.hook_resid_post", ids)     # [tokens, d]
    """

    folder: Path

    def collect(self, model: LanguageModel, name: str, ids: Tensor, *, progress: Progress = Progress()) -> Tensor:
        """The activations [tokens, d], computed where they are not there yet.

        The first position of each row is left out: its stream is many times longer than any other's.

        Args:
            model: a decoder.
            name: of an editable site.
            ids: [rows, pos], all of one length.
            progress: shows the shards.

        Raises:
            CircuitError: the folder holds those of another model, site or corpus, or a shard is damaged.
        """
        told = {"schema": 1, "model": model.fingerprint, "site": name, "corpus": fingerprint(ids.tolist())}
        path = self.folder / _MANIFEST
        self.folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            found = read_json(path)
            differs = [key for key, value in told.items() if found.get(key) != value]
            if differs:
                raise CircuitError(
                    f"{self.folder} holds activations of another {differs[0]} ({found.get(differs[0])}, not "
                    f"{told[differs[0]]}); give another folder."
                )
        else:
            write_json(path, told)
        parts = []
        for number, rows in enumerate(progress.track(ids.split(_ROWS), task="activations")):
            shard = self.folder / f"shard-{number:05d}.safetensors"
            if not shard.exists():
                write_shard(shard, {"activations": site_activations(model, name, rows)}, {"shard": number})
            with _ActivationFile(shard) as file:
                if file.sha256() != file.facts["sha256"]:
                    raise CircuitError(f"{shard} is damaged (another hash); {file.if_damaged}")
                parts.append(file.tensor("activations"))
        return torch.cat(parts)


def site_activations(model: LanguageModel, name: str, ids: Tensor) -> Tensor:
    """Activations without the first position of each row, heads side by side, [rows * (pos - 1), d].

    Raises:
        CircuitError: the site is one that can only be read.
    """
    if not site(model, name).editable:
        raise CircuitError(f"{name} can only be read; give a site that can be edited, such as hook_resid_post.")
    found = activations(model, name, ids)
    return found.flatten(2)[:, 1:].flatten(0, 1).float().cpu().contiguous()
