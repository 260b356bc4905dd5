"""Targets, returns, optimisers, statistics and significance tests: pure functions with hand-computed tests."""

from rlexp.system import lazy

__getattr__, __dir__ = lazy.modules_of(__name__)
