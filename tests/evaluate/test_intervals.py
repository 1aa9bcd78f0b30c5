from __future__ import annotations

import numpy as np
import pytest

from tracemend.errors import TracemendError
from tracemend.evaluate import mean_interval


def test_it_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = mean_interval(rng.normal(0.3, 1, size=80), seed=trial, n=400)
        covered += int(low <= 0.3 <= high)
    assert 180 <= covered <= 199


def test_groups_that_agree_widen_it():
    values = np.repeat(np.arange(20) % 2, 50)
    alone_low, alone_high = mean_interval(values)
    low, high = mean_interval(values, groups=np.repeat(np.arange(20), 50).tolist())
    assert high - low > 4 * (alone_high - alone_low)


def test_rows_share_their_resamples():
    rng = np.random.default_rng(1)
    first = rng.random(100)
    rows = np.stack([first, first + 0.25])
    low, _ = mean_interval(rows)
    np.testing.assert_allclose(low[1] - low[0], 0.25)
    np.testing.assert_allclose(mean_interval(rows[1] - rows[0]), (0.25, 0.25))


def test_what_does_not_fit_is_refused():
    with pytest.raises(TracemendError, match="no examples"):
        mean_interval([])
    with pytest.raises(TracemendError, match="2 groups for 3"):
        mean_interval([1, 2, 3], groups=["a", "b"])
