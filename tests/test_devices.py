"""Methods run where the model is on another device than what they make themselves, here with a device that is made up.

A model's tensors are marked as elsewhere while they stay on the CPU; what mixes them with others as CUDA would not
allow is an error. What only a real device shows (kernels that are missing, rounding) is not looked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from tracemend.circuits.stages import Stages
from tracemend.methods import Method, registry

HERE, ELSEWHERE = torch.device("cpu"), torch.device("cuda:0")
METHODS = registry()


def away(value: Any) -> bool:
    return bool(getattr(value, "is_elsewhere", False))


def mark(value: Tensor, elsewhere: bool) -> Tensor:
    value.is_elsewhere = elsewhere  # type: ignore[attr-defined]
    return value


def send(model: Any) -> None:
    """Put a model on the other device, or each stage of one."""
    if isinstance(model, Stages):
        for stage in [*map(model.get, model.steps), *([model.beside] if model.beside is not None else [])]:
            send(stage)
        return
    model = getattr(model, "model", model)
    if hasattr(model, "language_model"):
        send(model.language_model)
    if isinstance(getattr(model, "network", None), torch.nn.Module):  # a function of one's own has none
        for value in (*model.network.parameters(), *model.network.buffers()):
            mark(value, True)


def tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def named_device(value: Any) -> torch.device | None:
    if isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda", "meta"):
        value = torch.device(value)
    return value if isinstance(value, torch.device) and value.type != "meta" else None


def may_mix(name: str, args: Any) -> bool:
    """Whether CUDA lets a tensor of its own meet one of the CPU here."""
    if name in ("copy_", "_has_compatible_shallow_copy_type"):
        return True
    if name == "__getitem__":
        return away(args[0]) or not any(index.dim() for index in tensors(args[1]))
    if name == "__setitem__":
        target, index, value = args
        by_tensor = any(one.dim() for one in tensors(index))
        single = not isinstance(value, Tensor) or not value.dim()
        return not by_tensor or (away(target) and (single or away(value)))
    return False


class OtherDevice(TorchFunctionMode):
    """While it is on, marked tensors behave as if they were on a GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", str(func)), dict(kwargs or {})
        own = args[0] if args and isinstance(args[0], Tensor) else None
        if func == Tensor.device.__get__:
            return ELSEWHERE if away(own) else func(*args, **kwargs)
        if func == Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
            return away(own)
        if name in ("cpu", "to"):
            return self._moved(name, func, args, kwargs)
        if name in ("numpy", "__array__") and away(own):
            raise TypeError(f"{name} of a tensor of another device; use .cpu() first")
        if func == Tensor.data.__set__:  # type: ignore[attr-defined]
            mark(args[0], away(args[1]))
            return func(*args, **kwargs)
        wanted = named_device(kwargs.get("device"))
        if wanted is not None:
            kwargs["device"] = HERE
            if wanted != HERE and kwargs.get("generator") is not None:
                raise RuntimeError(f"{name} on another device with a generator of the CPU")
        given = tensors((args, kwargs))
        here = [one for one in given if not away(one) and (one.dim() or name == "stack")]
        if wanted is None and here and len(here) < len(given) and any(map(away, given)) and not may_mix(name, args):
            raise RuntimeError(f"{name} of tensors of two devices: {[(tuple(g.shape), away(g)) for g in given]}")
        found = func(*args, **kwargs)
        if name not in ("__setitem__", "copy_"):
            there = any(map(away, given)) if wanted is None else wanted != HERE
            for one in tensors(found):
                if not any(one is value for value in given):
                    mark(one, there)
        return found

    def _moved(self, name: str, func: Any, args: Any, kwargs: Any) -> Tensor:
        own, *rest = args
        there = name == "to" and away(own)
        for value in (*rest, kwargs.get("device"), kwargs.get("other")):
            device = named_device(value)
            if device is not None:
                there = device != HERE
            elif isinstance(value, Tensor):
                there = away(value)
        if kwargs.get("device") is not None:
            kwargs["device"] = HERE
        found = func(own, *(value if named_device(value) is None else HERE for value in rest), **kwargs)
        if found is own:
            return own if there == away(own) else mark(own.clone(), there)
        return mark(found, there)


@pytest.fixture
def parameters_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parameter made of a tensor lies where it does, in a copy of a network too."""
    make = torch.nn.Parameter.__new__

    def placed(cls: Any, data: Any = None, requires_grad: bool = True) -> Any:
        found = make(cls, data, requires_grad)
        return mark(found, True) if away(data) else found

    monkeypatch.setattr(torch.nn.Parameter, "__new__", placed)


@pytest.mark.slow
@pytest.mark.usefixtures("parameters_stay")
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_a_method_runs_with_the_model_on_another_device(method: type[Method[Any]]) -> None:
    configured, model, data = method.tiny()
    send(model)
    with OtherDevice():
        assert configured.run(model, data).metrics


MIXES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "sum": lambda there, here: there + here,
    "index": lambda there, here: here[there.long()],
    "put": lambda there, here: there.__setitem__(torch.tensor([0, 1]), here),
    "stack": lambda there, here: torch.stack([there[0], here[0]]),
    "numpy": lambda there, here: there.numpy(),
}


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES.keys())
def test_the_made_up_device_refuses_what_cuda_does(mix: Callable[[Tensor, Tensor], Any]) -> None:
    with OtherDevice(), pytest.raises((RuntimeError, TypeError)):
        mix(mark(torch.zeros(2), True), torch.zeros(2))


def test_the_made_up_device_allows_what_cuda_does() -> None:
    with OtherDevice():
        there, here = mark(torch.zeros(2), True), torch.arange(2)
        there[:1] = here[:1]
        there[here] = there[here] + here[0]
        assert there.device == ELSEWHERE and there.cpu().device == HERE and (here.to(there) + there).is_cuda
