"""Algorithms, each written for one trial as pure functions on explicit state."""

from rlexp.system import lazy

__getattr__, __dir__ = lazy.modules_of(__name__)
