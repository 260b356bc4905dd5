"""Action masks."""

from __future__ import annotations

import numpy as np
import pytest

from rlexp.envs import action_mask, faults


def test_action_masks_have_a_number_for_each_action() -> None:
    assert action_mask.mask_of({"action_mask": [1, 0]}, 2) == [1, 0]
    for wrong in ({"action_mask": [1]}, {"action_mask": np.ones((2, 1))}, {}, None):
        with pytest.raises(faults.Unfit, match="expected an action_mask "):
            action_mask.mask_of(wrong, 2)
