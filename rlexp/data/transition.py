"""The fields of a transition: what rings, rollout buffers and compiled programs keep of one step."""

from __future__ import annotations

SCALARS = {"a_tm1": "int32", "r_t": "float32", "terminated": "bool", "truncated": "bool"}
FIELDS = ("o_tm1", *SCALARS, "o_t")
