"""Reproduction of figures: the textbook chapter's, with its notebook's own loops, and those of the tuned presets."""

from rlexp.system import lazy

__getattr__, __dir__ = lazy.modules_of(__name__)
