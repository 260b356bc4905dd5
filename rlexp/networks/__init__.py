"""Keras models of one trial, and their weights as one flat vector."""

from rlexp.system import lazy

__getattr__, __dir__ = lazy.modules_of(__name__)
