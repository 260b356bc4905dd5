"""Gymnasium environments as algorithms and engines see them; beside the book, nothing else imports Gymnasium."""

from rlexp.system import lazy

__getattr__, __dir__ = lazy.modules_of(__name__)
