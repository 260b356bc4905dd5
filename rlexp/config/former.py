"""Configurations of jobs of earlier versions, as this version writes them: their policies can still be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PPO_KEYS = ("num_updates", "num_minibatches", "clip_ratio")  # of policy gradients, before `ppo` was an algorithm


def current(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A job's stored configuration, with keys that have moved in their new places; others come back as they are.

    Before `ppo` was an algorithm, `pg_baseline` was PPO unless `clip_ratio` was null, and `pg` had the same keys. A job
    that clipped without a baseline, or made several updates per batch without clipping, is no algorithm any more: its
    keys stay, and are refused.
    """
    algo = config.get("algo")
    if not isinstance(algo, Mapping) or algo.get("name") not in ("pg", "pg_baseline") or "clip_ratio" not in algo:
        return config
    if algo["clip_ratio"] is None and (algo.get("num_updates", 1), algo.get("num_minibatches", 1)) == (1, 1):
        return {**config, "algo": {key: value for key, value in algo.items() if key not in PPO_KEYS}}
    if algo["clip_ratio"] is not None and algo["name"] == "pg_baseline":
        return {**config, "algo": {**algo, "name": "ppo"}}
    return config
