"""Evaluation on environments of its own."""

from __future__ import annotations

import numpy as np
import pytest

from rlexp.envs import episodes, lock_step, making
from rlexp.jobs.runner import compose, resolve


def test_environments_are_made_when_they_are_first_played(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, info = resolve(compose("algo=random", "trials=3"))
    make, made = making.make, []
    monkeypatch.setattr(lock_step, "make", lambda *args, **more: made.append(make(*args, **more)) or made[-1])
    player = episodes.EpisodePlayer(settings.env, info, settings.seeds, 50, 20)
    for trials, num_made in (([True, False, False], 2), ([True, False, True], 4), ([True, False, True], 4)):
        returns, lengths = player.play(lambda o_t: np.zeros(o_t.shape[:2], np.int64), [7, 8], np.array(trials))
        assert returns.shape == lengths.shape == (3, 2) and len(made) == num_made
        assert np.isnan(returns[1]).all() and returns[0].tolist() == lengths[0].tolist() == [9, 10]
    player.close()
