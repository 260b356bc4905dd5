"""The report of a study: reading its jobs, comparing them, drawing figures, writing the page and its tables."""

from rlexp.system import lazy

__getattr__, __dir__ = lazy.modules_of(__name__)
