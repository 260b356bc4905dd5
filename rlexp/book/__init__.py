"""The textbook chapter: its notebook's own loops, run literally, and the reproduction of its figures by presets."""

from rlexp.system import lazy

__getattr__, __dir__ = lazy.modules_of(__name__)
