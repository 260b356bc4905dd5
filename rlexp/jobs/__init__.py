"""One job: its folder, its training, its results and its trained policies."""

from rlexp.system import lazy

__getattr__, __dir__ = lazy.modules_of(__name__)
