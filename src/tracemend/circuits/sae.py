"""Sparse autoencoders: activations as sums of few of many directions, and their files in SAELens's form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from tracemend.errors import CircuitError, did_you_mean
from tracemend.runs import atomic, write_json

Kind = Literal["l1", "topk"]
KINDS: tuple[Kind, ...] = ("l1", "topk")
# Names of the same things in SAELens.
_ARCHITECTURES: dict[str, Kind] = {"standard": "l1", "topk": "topk"}
_WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")
# Of activations by head, of which SAELens knows those alone that W_O reads: heads side by side.
_BY_HEAD = "hook_z"
_CONFIG, _TENSORS = "cfg.json", "sae_weights.safetensors"


@dataclass(frozen=True, eq=False)
class SparseAutoencoder:
    """x̂ = f W_dec + b_dec with f = ReLU((x - b_dec) W_enc + b_enc), of which ``topk`` keeps the k largest.

    Attributes:
        kind: ``l1`` or ``topk``.
        w_enc: [d, latents].
        b_enc: [latents].
        w_dec: [latents, d], rows of length 1 after training.
        b_dec: [d].
        k: latents that may be active at once; 0 of ``l1``.
        site: whose activations it was trained on, or empty.
        model: whose, or empty.
    """

    kind: Kind
    w_enc: Tensor
    b_enc: Tensor
    w_dec: Tensor
    b_dec: Tensor
    k: int = 0
    site: str = ""
    model: str = ""

    @property
    def latents(self) -> int:
        """How many directions there are."""
        return int(self.w_dec.shape[0])

    def before(self, x: Tensor) -> Tensor:
        """What is compared before the rule of sparsity, [..., latents]."""
        return (x - self.b_dec) @ self.w_enc + self.b_enc

    def encode(self, x: Tensor) -> Tensor:
        """Features of activations [..., d], [..., latents]."""
        found = self.before(x)
        return top_of(found, self.k) if self.kind == "topk" else found.relu()

    def decode(self, features: Tensor) -> Tensor:
        """Activations from features."""
        return features @ self.w_dec + self.b_dec

    def __call__(self, x: Tensor) -> Tensor:
        """The reconstruction of activations [..., d]."""
        return self.decode(self.encode(x))

    def save(self, folder: Path | str) -> Path:
        """Write ``cfg.json`` and ``sae_weights.safetensors``, as SAELens reads them."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        names = {kind: name for name, kind in _ARCHITECTURES.items()}
        facts: dict[str, Any] = {
            "architecture": names[self.kind],
            "d_in": int(self.w_dec.shape[1]),
            "d_sae": self.latents,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": True,
            "normalize_activations": "none",
            "reshape_activations": _BY_HEAD if self.site.endswith(_BY_HEAD) else "none",
            "metadata": {"hook_name": self.site or None, "model_name": self.model or None},
        }
        if self.kind == "topk":
            facts |= {"k": self.k, "rescale_acts_by_decoder_norm": False}
        own = (self.w_enc, self.b_enc, self.w_dec, self.b_dec)
        tensors = {name: part.detach().float().cpu().contiguous() for name, part in zip(_WEIGHTS, own, strict=True)}
        with atomic(path / _TENSORS, "wb") as file:
            file.write(save(tensors))
        write_json(path / _CONFIG, facts)
        return path

    @classmethod
    def read(cls, folder: Path | str) -> SparseAutoencoder:
        """Read a folder that :meth:`save` or SAELens wrote.

        Raises:
            CircuitError: a file is missing or damaged, or the autoencoder is of a kind that is not known here.
        """
        path = Path(folder)
        try:
            facts = json.loads((path / _CONFIG).read_text(encoding="utf-8"))
            if not isinstance(facts, dict):
                raise ValueError(f"{_CONFIG} holds a {type(facts).__name__}, not an object")
            tensors = load_file(path / _TENSORS)
        except (OSError, ValueError, SafetensorError) as error:
            raise CircuitError(
                f"{path} holds no sparse autoencoder that can be read ({error}); expected {_CONFIG} and {_TENSORS}."
            ) from None
        named = facts.get("architecture", "standard")
        if named not in _ARCHITECTURES:
            raise CircuitError(f"the architecture {named!r} of {path} is {did_you_mean(named, _ARCHITECTURES)}")
        try:
            _check(named, facts, tensors, path)
        except (TypeError, ValueError) as error:
            raise CircuitError(f"{path / _CONFIG} holds a value that cannot be read ({error}).") from None
        w_enc, b_enc, w_dec, b_dec = (tensors[name].float() for name in _WEIGHTS)
        if facts.get("rescale_acts_by_decoder_norm"):
            length = w_dec.norm(dim=-1)
            w_enc, b_enc, w_dec = w_enc * length, b_enc * length, w_dec / length[:, None]
        if not facts.get("apply_b_dec_to_input", True):
            b_enc = b_enc + b_dec @ w_enc
        told = facts.get("metadata") or facts.get("meta") or facts
        told = told if isinstance(told, dict) else {}
        k = int(facts["k"]) if named == "topk" else 0
        site, model = told.get("hook_name") or "", told.get("model_name") or ""
        return cls(_ARCHITECTURES[named], w_enc, b_enc, w_dec, b_dec, k, site, model)


def top_of(values: Tensor, k: int) -> Tensor:
    """The ``k`` largest of the last dimension where they are above 0, the others 0."""
    kept = values.topk(k, dim=-1)
    return torch.zeros_like(values).scatter(-1, kept.indices, kept.values.relu())


def kind_of(name: str) -> Kind:
    """The kind of that name.

    Raises:
        CircuitError: there is none.
    """
    if name not in KINDS:
        raise CircuitError(f"the kind {name!r} is {did_you_mean(name, KINDS)}")
    return name


def _check(named: str, facts: dict[str, Any], tensors: dict[str, Tensor], path: Path) -> None:
    lacking = [name for name in _WEIGHTS if name not in tensors]
    if lacking:
        raise CircuitError(f"{path / _TENSORS} has no {lacking[0]}; expected {', '.join(_WEIGHTS)}.")
    inside, latents = (int(facts.get(name, -1)) for name in ("d_in", "d_sae"))
    expected = {"W_enc": (inside, latents), "b_enc": (latents,), "W_dec": (latents, inside), "b_dec": (inside,)}
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise CircuitError(f"{name} of {path} is {tuple(tensors[name].shape)}; by {_CONFIG} it should be {shape}.")
    if facts.get("normalize_activations", "none") not in ("none", False):
        raise CircuitError(
            f"{path} was trained on activations normalised by {facts['normalize_activations']!r}; only 'none' can be "
            "read. Fold the normalisation into its weights first."
        )
    if facts.get("reshape_activations", "none") not in ("none", _BY_HEAD):
        raise CircuitError(
            f"{path} was trained on activations reshaped by {facts['reshape_activations']!r}; expected 'none' or "
            f"{_BY_HEAD!r}, heads side by side."
        )
    if named == "topk" and not 1 <= int(facts.get("k", 0)) <= latents:
        raise CircuitError(f"k of {path} is {facts.get('k')}; expected 1 to {latents}.")
