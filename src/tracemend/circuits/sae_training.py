"""Training of sparse autoencoders, with L1 or the k largest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tracemend.circuits.circuit import generator
from tracemend.circuits.sae import Kind, SparseAutoencoder, top_of
from tracemend.errors import CircuitError
from tracemend.progress import Progress

# A latent that was silent for so many steps is dead; k_aux dead ones at most try to explain what is left.
_SILENT = 100
_AUXILIARY = 1 / 32
_RESAMPLED = (0.25, 0.5, 0.75)
_FEWEST = 10


@dataclass(frozen=True, kw_only=True)
class SaeTraining:
    """How a sparse autoencoder is trained.

    ``topk`` (Gao et al. 2024, arXiv 2406.04093) minimises |x - x̂|² with the k largest latents, plus 1/32 of the error
    with which dead latents explain what is left over. ``l1`` (Bricken et al. 2023) minimises |x - x̂|² + l1 Σ f; dead
    latents are drawn again after a quarter, half and three quarters of the steps, at inputs that are explained badly.
    In both the decoder's rows have length 1, and what would only change their length is taken out of their gradient.
    Activations are scaled so that their mean square length is their width; afterwards the scale is in the weights.

    Attributes:
        kind: ``l1`` or ``topk``.
        latents: directions.
        k: active at once (topk).
        l1: weight of Σ f (l1).
        steps: of Adam.
        batch: activations a step.
        rate: learning rate; falls to nothing over the last fifth.
        seed: of the first weights and the batches.
    """

    kind: Kind = "topk"
    latents: int = 2304
    k: int = 32
    l1: float = 1.5
    steps: int = 1200
    batch: int = 512
    rate: float = 1e-3
    seed: int = 0

    def fit(self, activations: Tensor, *, progress: Progress = Progress()) -> SparseAutoencoder:
        """Train on activations [n, d].

        Raises:
            CircuitError: too few of them, or ones that are constant or no numbers; k above the latents.
        """
        scale = self._scale(activations)
        width, random = activations.shape[1], generator(self.seed)
        w_dec = torch.nn.functional.normalize(torch.randn((self.latents, width), generator=random), dim=-1)
        b_dec = (activations * scale).mean(0)
        parts = [w_dec.T.clone(), torch.zeros(self.latents), w_dec, b_dec]
        for part in parts:
            part.requires_grad_()
        adam = torch.optim.Adam(parts, lr=self.rate)
        silent = torch.zeros(self.latents, dtype=torch.long)
        with torch.enable_grad():
            for step in progress.track(range(self.steps), task="train"):
                chosen = torch.randint(len(activations), (self.batch,), generator=random)
                x = activations[chosen] * scale
                features = self._step(adam, parts, x, silent, self._rate(step))
                silent = torch.where((features > 0).any(0), 0, silent + 1)
                if self.kind == "l1" and step in {int(self.steps * share) for share in _RESAMPLED}:
                    self._resample(adam, parts, activations * scale, silent, random)
        w_enc, b_enc, w_dec, b_dec = (part.detach() for part in parts)
        # Features carry the scale, so that the decoder's rows keep their length.
        k = self.k if self.kind == "topk" else 0
        return SparseAutoencoder(self.kind, w_enc, b_enc / scale, w_dec, b_dec / scale, k)

    def _scale(self, activations: Tensor) -> float:
        if activations.ndim != 2 or len(activations) < _FEWEST * self.latents:
            raise CircuitError(
                f"{len(activations)} activations are too few for {self.latents} latents; expected at least "
                f"{_FEWEST} for each. Read more tokens or take fewer latents."
            )
        if not torch.isfinite(activations).all():
            raise CircuitError("some activations are no finite numbers; look at the model's precision and the site.")
        if float(activations.var(0).sum()) <= 1e-12:
            raise CircuitError("all activations are the same; there is nothing to take apart. Give another site.")
        if self.kind == "topk" and not 1 <= self.k <= self.latents:
            raise CircuitError(f"k is {self.k}; expected 1 to {self.latents}, the number of latents.")
        if min(self.steps, self.batch) < 1 or not self.rate > 0 or self.l1 < 0:
            raise CircuitError(
                f"steps is {self.steps}, batch {self.batch}, rate {self.rate} and l1 {self.l1}; expected at least 1 "
                "and 1, a number above 0, and one that is not negative."
            )
        return float((activations.shape[1] / activations.square().sum(-1).mean()).sqrt())

    def _rate(self, step: int) -> float:
        left = (self.steps - step) / max(1.0, 0.2 * self.steps)
        return self.rate * min(1.0, left)

    def _step(self, adam: torch.optim.Adam, parts: list[Tensor], x: Tensor, silent: Tensor, rate: float) -> Tensor:
        w_enc, b_enc, w_dec, b_dec = parts
        before = (x - b_dec) @ w_enc + b_enc
        if self.kind == "topk":
            features = top_of(before, self.k)
            error = x - (features @ w_dec + b_dec)
            loss = error.square().sum(-1).mean()
            dead = silent >= _SILENT
            if bool(dead.any()):
                loss = loss + _AUXILIARY * self._unexplained(before, dead, error.detach(), w_dec)
        else:
            features = before.relu()
            error = x - (features @ w_dec + b_dec)
            loss = error.square().sum(-1).mean() + self.l1 * features.sum(-1).mean()
        for part, slope in zip(parts, torch.autograd.grad(loss, parts), strict=True):
            part.grad = slope
        with torch.no_grad():
            if w_dec.grad is not None:
                w_dec.grad -= (w_dec.grad * w_dec).sum(-1, keepdim=True) * w_dec
            for group in adam.param_groups:
                group["lr"] = rate
            adam.step()
            w_dec /= w_dec.norm(dim=-1, keepdim=True)
        return features.detach()

    def _unexplained(self, before: Tensor, dead: Tensor, error: Tensor, w_dec: Tensor) -> Tensor:
        number = min(int(dead.sum()), max(1, error.shape[1] // 2))
        found = top_of(before[:, dead], number) @ w_dec[dead]
        return (found - error).square().sum(-1).mean()

    @torch.no_grad()
    def _resample(
        self, adam: torch.optim.Adam, parts: list[Tensor], x: Tensor, silent: Tensor, random: torch.Generator
    ) -> None:
        """New directions for dead latents, at inputs drawn by their squared loss (Bricken et al. 2023)."""
        dead = (silent >= _SILENT).nonzero().flatten()
        if not len(dead) or len(dead) == len(silent):
            return
        w_enc, b_enc, w_dec, b_dec = parts
        some = x[torch.randint(len(x), (min(8192, 8 * len(x)),), generator=random)]
        features = ((some - b_dec) @ w_enc + b_enc).relu()
        loss = (some - (features @ w_dec + b_dec)).square().sum(-1)
        drawn = torch.multinomial(loss.square() + 1e-12, len(dead), replacement=True, generator=random)
        rows = torch.nn.functional.normalize(some[drawn] - b_dec, dim=-1)
        alive = silent < _SILENT
        w_dec[dead] = rows
        w_enc[:, dead] = 0.2 * w_enc[:, alive].norm(dim=0).mean() * rows.T
        b_enc[dead] = 0
        for part, where in ((w_enc, (slice(None), dead)), (b_enc, (dead,)), (w_dec, (dead,))):
            state = adam.state[part]
            for name in ("exp_avg", "exp_avg_sq"):
                state[name][where] = 0
        silent[dead] = 0
