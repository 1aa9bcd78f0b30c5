"""Capture and edit activations: context managers that leave the model bit-identical afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tracemend.errors import ModelError
from tracemend.models.language_model import LanguageModel
from tracemend.models.sites import Site, site, trunk

Edit = Callable[[Tensor], Tensor]
# What is done with the whole tensor that passes a module; None leaves it as it is.
_Pass = Callable[[Tensor], Tensor | None]


@contextmanager
def capture(
    model: LanguageModel | nn.Module, names: Iterable[str], *, grad: bool = False, constants: bool = False
) -> Iterator[dict[str, Tensor]]:
    """Keep the activations at these sites while the block runs the model.

    Args:
        model: a loaded model or any module around a transformers model.
        names: of sites, see :func:`tracemend.models.sites`.
        grad: keep the tensors in the graph and, after a backward pass, their gradients in ``.grad``.
        constants: with ``grad``, keep those as they are before which nothing requires a gradient; else the graph
            starts there, or the site is refused.

    Yields:
        A dict that each forward pass fills: name -> tensor of the site's shape. Later passes replace earlier ones;
        it stays filled after the block. Contexts act in the order they were entered: an ``edit`` entered
        before is seen, one entered after is not.

    Raises:
        ModelError: no such site; or a forward pass did not reach it (attention patterns exist only in a model
            loaded with ``attention="eager"``, ``hook_embed`` only where token ids are the input).

    Example:
        >>> with capture(model, ["blocks.0.hook_resid_post"]) as seen:
        ...     model.network(**model.tokenizer("so it goes", return_tensors="pt"))
        >>> seen["blocks.0.hook_resid_post"].shape      # [batch, pos, d_model]
    """
    wanted = [site(model, name) for name in names]
    seen: dict[str, Tensor] = {}

    def keep(where: Site) -> _Pass:
        def passing(whole: Tensor) -> Tensor | None:
            found = where.read(whole)
            if not grad or (constants and not found.requires_grad):
                seen[where.name] = found.detach()
                return None
            passed, seen[where.name] = _in_graph(where, whole)
            return passed

        return passing

    with _hooked(model, [(where, keep(where)) for where in wanted]):
        yield seen
    missed = [where.name for where in wanted if where.name not in seen]
    if missed:
        raise ModelError(
            f"no forward pass inside the block reached {', '.join(missed)}. Attention patterns need a model loaded "
            'with attention="eager"; hook_embed needs input_ids, not inputs_embeds; decoder sites need decoder inputs.'
        )


@contextmanager
def edit(model: LanguageModel | nn.Module, edits: Mapping[str, Edit]) -> Iterator[None]:
    """Change activations while the block runs the model.

    Args:
        model: a loaded model or any module around a transformers model.
        edits: site name -> function from the activation (a copy, which it may change in place) to the new one of
            the same shape.

    Raises:
        ModelError: no such site, one that can only be read, or a function that returns another shape.

    Example:
        >>> with edit(model, {"blocks.1.attn.hook_z": lambda z: z.index_fill(2, torch.tensor([3]), 0.0)}):
        ...     model.network(**inputs)      # with head 3 of layer 1 silent
    """
    wanted = [(site(model, name), change) for name, change in edits.items()]
    for where, _ in wanted:
        if not where.editable:
            raise ModelError(
                f"site {where.name!r} can be read but not edited: its value is used before any module returns it. "
                "Edit hook_z or hook_v in place of a pattern, hook_attn_out in place of hook_resid_mid."
            )

    def rewrite(where: Site, change: Edit) -> _Pass:
        def passing(whole: Tensor) -> Tensor:
            old = where.read(whole)
            new: Any = change(old.clone())
            if not isinstance(new, Tensor) or new.shape != old.shape:
                got = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
                raise ModelError(
                    f"the edit of {where.name!r} returned {got}; expected a tensor of shape {tuple(old.shape)} "
                    f"({where.shape})."
                )
            return where.write(whole, new)

        return passing

    with _hooked(model, [(where, rewrite(where, change)) for where, change in wanted]):
        yield


def _in_graph(where: Site, whole: Tensor) -> tuple[Tensor | None, Tensor]:
    """The tensor to pass on, and the activation that it was made from, which will hold the gradient."""
    if not torch.is_grad_enabled():
        raise ModelError("capture(..., grad=True) needs gradients; do not call the model under torch.no_grad().")
    found = where.read(whole)
    if not found.requires_grad:
        # Nothing before it is trainable: the graph starts here.
        if not where.editable:
            raise ModelError(f"nothing before {where.name!r} requires a gradient; capture an editable site as well.")
        found = found.detach().requires_grad_()
    found.retain_grad()
    # A view is not what the network goes on with, so the network is handed what is rebuilt from it.
    return (None if found is whole else where.write(whole, found)), found


@contextmanager
def _hooked(model: LanguageModel | nn.Module, passes: Iterable[tuple[Site, _Pass]]) -> Iterator[None]:
    """Hooks for as long as the block runs."""
    bare = trunk(model)
    with ExitStack() as stack:
        for where, passing in passes:
            stack.callback(_hang(bare.get_submodule(where.module), where, passing))
        yield


def _hang(module: nn.Module, where: Site, passing: _Pass) -> Callable[[], None]:
    """Register one hook and return what takes it away."""

    def on_input(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        whole = args[0] if args else kwargs["hidden_states"]
        new = passing(whole)
        if new is None:
            return None
        return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

    def on_output(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        whole = output[where.index] if isinstance(output, tuple) else output
        # Attention other than eager returns no pattern.
        new = passing(whole) if whole is not None else None
        if new is None or not isinstance(output, tuple):
            return new
        return (*output[: where.index], new, *output[where.index + 1 :])

    if where.side == "input":
        return module.register_forward_pre_hook(on_input, with_kwargs=True).remove
    return module.register_forward_hook(on_output).remove
