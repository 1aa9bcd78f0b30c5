"""Features of an autoencoder as units of a site: read as codes, and written back with what the codes leave out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from tracemend.errors import ModelError
from tracemend.models.language_model import LanguageModel
from tracemend.models.sites import Site, register_site, site, sites

_FEATURES = "[batch, pos, feature]"


class Autoencoder(Protocol):
    """Takes activations apart into features, and puts them together again."""

    @property
    def w_dec(self) -> Tensor:
        """What each feature stands for [features, d]."""

    def encode(self, x: Tensor) -> Tensor:
        """Features of activations [..., d], [..., features]."""

    def decode(self, features: Tensor) -> Tensor:
        """Activations from features."""


@dataclass(frozen=True, kw_only=True)
class FeatureSite(Site):
    """Features of an autoencoder at another site.

    With x the activation there, E the encoder and D the decoder, it reads f = E(x), and writing f' makes

        x' = x + D(f') - D(E(x))

    so that what the features do not explain stays, and x' = x where none is changed.

    Attributes:
        base: whose activations the features are of; heads lie side by side.
        code: the autoencoder, on the processor.
    """

    base: Site
    code: Autoencoder

    def read(self, whole: Tensor) -> Tensor:
        """Features [batch, pos, feature], in single precision."""
        return self.code.encode(self._vectors(whole)).to(whole.device)

    def write(self, whole: Tensor, new: Tensor) -> Tensor:
        """The tensor that passes on when the features become ``new``."""
        old = self.base.read(whole)
        flat = self._vectors(whole)
        moved = self.code.decode(new.to(flat)) - self.code.decode(self.code.encode(flat))
        return self.base.write(whole, old + moved.to(old).reshape(old.shape))

    def _vectors(self, whole: Tensor) -> Tensor:
        found = self.base.read(whole).flatten(2)
        width = int(self.code.w_dec.shape[1])
        if found.shape[-1] != width:
            raise ModelError(
                f"the autoencoder is of activations of {width} numbers and {self.base.name} has {found.shape[-1]}; "
                "give the one that was trained on this site of this model."
            )
        return found.float().to(self.code.w_dec.device)


def register_features(model: LanguageModel | nn.Module, base: str, code: Autoencoder) -> str:
    """Make the features of an autoencoder addressable as a site of one model.

    Args:
        model: for as long as it lives.
        base: name of the site whose activations the autoencoder takes apart.
        code: such as :class:`tracemend.circuits.SparseAutoencoder`.

    Returns:
        The name: that of the site, ``features``, and a hash of the autoencoder, so that features of two autoencoders
        are never taken for the same.

    Raises:
        ModelError: no such site, or one without a vector a token.

    Example:
        >>> name = register_features(model, "blocks.15.hook_resid_post", SparseAutoencoder.read("runs/features/sae"))
        >>> with edit(model, {name: lambda f: f.index_fill(-1, torch.tensor([7]), 0.0)}):
        ...     model.network(**inputs)      # without feature 7
    """
    where = site(model, base)
    if "query" in where.shape or isinstance(where, FeatureSite):
        raise ModelError(f"{base} has no vector for each token to take apart; take a stream, an MLP or heads.")
    name = f"{base}.features.{_hash(code)}"
    new = FeatureSite(
        name=name, module=where.module, side=where.side, index=where.index, editable=where.editable, shape=_FEATURES,
        base=where, code=code,
    )  # fmt: skip
    # Read from disk a second time, it is another object with the same numbers.
    if name not in {known.name for known in sites(model)}:
        register_site(model, new)
    return name


def _hash(code: Autoencoder) -> str:
    """Of all its numbers and settings, whatever their names."""
    made = hashlib.sha256()
    for name, value in sorted(vars(code).items()):
        made.update(name.encode())
        if isinstance(value, Tensor):
            made.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        elif isinstance(value, str | int | float):
            made.update(repr(value).encode())
    return made.hexdigest()[:8]
