"""The control of every probe: networks that have learnt nothing, the mean over several."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tracemend.errors import ProbeError
from tracemend.methods import registry
from tracemend.models import LanguageModel, random_weights, tiny
from tracemend.probing.untrained import averaged, untrained

PROBES = sorted(
    name for name in registry() if name.startswith("probing.") and hasattr(registry()[name], "random_models")
)


def test_networks_of_different_weights_and_the_same_shape() -> None:
    model = tiny("bert")
    first, second = untrained(model, 2, seed=3)
    assert [first.name, second.name] == [f"{model.name} (random weights 4)", f"{model.name} (random weights 5)"]
    assert len({model.fingerprint, first.fingerprint, second.fingerprint}) == 3


def test_a_figure_that_one_network_lacks_is_the_mean_of_the_others() -> None:
    assert averaged([{"a": 0.0, "b": 2.0}, {"a": 1.0}]) == {"a": 0.5, "b": 2.0}


def test_every_probe_of_a_model_counts_its_untrained_networks() -> None:
    """All but the pruning of heads, whose control is the order in which they go."""
    probes = {name for name in registry() if name.startswith("probing.")}
    assert probes - set(PROBES) == {"probing.head-pruning"}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBES)
def test_the_control_is_the_mean_over_the_networks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up: Any = registry()[name].tiny()
    probe, model, data = made_up
    home = sys.modules[type(probe).__module__]
    home = home if hasattr(home, "untrained") else sys.modules[type(probe).__mro__[1].__module__]

    def control(seeds: tuple[int, ...]) -> dict[str, float]:
        def made(of: LanguageModel, count: int, *, seed: int = 0) -> Iterator[LanguageModel]:
            assert (count, seed) == (len(seeds), probe.seed)
            return (random_weights(of, seed=one) for one in seeds)

        monkeypatch.setattr(home, "untrained", made)
        found: Any = replace(probe, random_models=len(seeds)).run(model, data)
        figures: dict[str, float] = found.controls["random_weights"]
        return figures

    one, other, both = control((1,)), control((2,)), control((1, 2))
    assert set(both) == set(one) | set(other)
    assert both == pytest.approx(averaged([one, other]), rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", PROBES)
def test_without_a_network_there_is_no_control(name: str) -> None:
    made_up: Any = registry()[name].tiny()
    probe, model, data = made_up
    with pytest.raises(ProbeError, match="random_models"):
        replace(probe, random_models=0).run(model, data)
