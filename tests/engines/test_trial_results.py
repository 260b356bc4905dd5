"""The record of training episodes."""

from __future__ import annotations

import numpy as np

from rlexp.engines.trial_results import Episodes


def test_episodes_keep_the_order_in_which_they_came() -> None:
    episodes = Episodes()
    assert episodes.table().shape == (0, 4)
    episodes.add(1, 7, -2.5, 7)
    episodes.add_many(np.array([0, 1]), np.array([9, 12]), np.array([1.5, np.nan]), np.array([9, 5]))
    episodes.add(0, 20, 3.0, 11)
    expected = [[1, 7, -2.5, 7], [0, 9, 1.5, 9], [1, 12, np.nan, 5], [0, 20, 3.0, 11]]
    for table in (episodes.table(), Episodes(episodes.table()).table()):
        assert table.dtype == np.float64
        np.testing.assert_array_equal(table, expected)
