"""Arrays of N trials: random numbers, replay rings, rollout buffers, records and checkpoints."""

from rlexp.system import lazy

__getattr__, __dir__ = lazy.modules_of(__name__)
