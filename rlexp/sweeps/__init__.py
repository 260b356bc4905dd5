"""The jobs of one multirun: plan, outcomes and launchers."""

from rlexp.system import lazy

__getattr__, __dir__ = lazy.modules_of(__name__)
