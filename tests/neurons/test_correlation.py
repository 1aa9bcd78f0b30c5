"""Units shared by models: found where they are, and not where they are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tracemend.errors import NeuronError
from tracemend.models import tiny
from tracemend.neurons import Correlation
from tracemend.neurons.agreement import Agreement
from tracemend.neurons.units import Units


def units(x):
    parts = {"train": x[:400], "dev": x[400:500], "test": x[500:]}
    return Units.of({part: torch.from_numpy(of.astype(np.float32)) for part, of in parts.items()})


@pytest.fixture(scope="module")
def pair():
    """The first unit of one model is the third of the other; the second a sum of two; the third nowhere."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(700, 5)), rng.normal(size=(700, 6))
    x[:, 0] = -y[:, 2]
    x[:, 1] = y[:, 0] + y[:, 1]
    x[:, 4] = 1.0
    return units(x), units(y)


def test_each_measure_finds_what_is_shared(pair):
    found = Agreement.between(*pair)
    assert found.pair[0] == pytest.approx(1.0) and 0.5 < found.pair[1] < 0.9 and found.pair[2] < 0.2
    assert found.regression[:2] == pytest.approx([1.0, 1.0], abs=1e-3) and found.regression[2] < 0.1
    assert found.shared[:2].min() > 0.95 and found.shared[2] < 0.2
    assert np.sort(found.svcca)[-2:] == pytest.approx([1.0, 1.0], abs=1e-3)
    # The fourth varies and is not shared, the fifth never varies.
    assert found.pair[4] == found.regression[4] == 0.0


def test_over_several_models_max_takes_the_best_and_min_the_worst(pair):
    one, other = pair
    nothing = units(np.random.default_rng(1).normal(size=(700, 6)))
    both = [Agreement.between(one, of) for of in (other, nothing)]
    assert Agreement.of(both, "max")[0] == pytest.approx(1.0)
    assert Agreement.of(both, "min")[0] < 0.2 and Agreement.of(both, "regression")[0] < 0.1
    assert Agreement.of(both, "svcca")[0] < 0.2


def test_the_best_of_several_models_is_chosen_on_training_words():
    """Of models that share nothing, the highest of their test figures would be no chance level."""
    rng = np.random.default_rng(2)
    one = units(rng.normal(size=(700, 40)))
    strangers = [Agreement.between(one, units(rng.normal(size=(700, 3)))) for _ in range(30)]
    alone = np.mean([of.pair.mean() for of in strangers])
    assert Agreement.of(strangers, "max").mean() == pytest.approx(alone, rel=0.25)
    assert np.max([of.pair for of in strangers], axis=0).mean() > 2 * alone
    at = np.argmax([of.training for of in strangers], axis=0)
    assert Agreement.of(strangers, "max").tolist() == [strangers[k].pair[j] for j, k in enumerate(at)]


def test_a_twin_shares_everything_and_a_stranger_less():
    method, model, bank = Correlation.tiny()
    method = replace(method, other_site="", site="blocks.1.hook_resid_post")
    twin = method.run(model, bank, others=[tiny("bert")])
    assert twin.metrics["correlation"] == pytest.approx(1.0, abs=1e-3)
    assert twin.controls["random_weights"]["correlation"] < 0.99
    assert twin.controls["shuffled"]["correlation"] < 0.5
    stranger = method.run(model, bank, others=[tiny("bert", seed=5), tiny("gpt2")])
    assert stranger.metrics["correlation"] < twin.metrics["correlation"]
    assert stranger.facts["others"] == ["tiny-bert", "tiny-gpt2"]
    assert len(stranger.table()) == 32 and stranger.table()["max"].is_monotonic_decreasing
    assert (stranger.table()["min"] <= stranger.table()["max"]).all()


@pytest.mark.parametrize(
    "options", [{"by": "mean"}, {"other_site": ""}, {"sizes": (99,), "at": 99}, {"at": 3}], ids=str
)
def test_bad_settings_are_refused(options):
    method, model, bank = Correlation.tiny()
    with pytest.raises(NeuronError) as caught:
        replace(method, **{"site": "blocks.1.hook_resid_post", **options}).run(model, bank)
    assert len(str(caught.value)) > 40
