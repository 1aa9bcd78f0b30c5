"""The same network with fresh random weights: the control that training alone must beat."""

from __future__ import annotations

import warnings
from copy import deepcopy
from typing import Any

import torch

from tracemend.models.language_model import LanguageModel, fingerprint_of
from tracemend.models.sites import register_site, registered


def random_weights(model: LanguageModel, *, seed: int = 0) -> LanguageModel:
    """A model of the same configuration with the same tokenizer, initialised anew as for pretraining.

    Sites that were registered for the model, such as features of an autoencoder, are sites of the new one.

    What a probe reads from it is due to the tokens and to the probe, not to what the model has learnt. The given model
    is not touched, and neither is the global random state.

    Args:
        model: whose architecture is taken.
        seed: of the weights.

    Example:
        >>> fresh = random_weights(load("minilm"), seed=1)
        >>> fresh.name, fresh.network.config.num_hidden_layers
        ('minilm (random weights 1)', 6)
    """
    maker: Any = type(model.network)
    parameter = next(model.network.parameters())
    attention = getattr(model.config, "_attn_implementation", "eager")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        # Of a network with matrices of no size, such as an MLP without hidden units, torch says so each time.
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        torch.manual_seed(seed)
        network = maker._from_config(deepcopy(model.config), dtype=torch.float32, attn_implementation=attention)
    network.to(parameter.device).eval()
    name = f"{model.name} (random weights {seed})"
    made = LanguageModel(
        name, model.family, network, model.tokenizer, model.window, fingerprint_of(network, tokenizer=model.tokenizer)
    )
    for further in registered(model):
        register_site(made, further)
    return made
