"""Configuration: schema, checks, messages, schedules, and the registry of names."""

from rlexp.system import lazy

__getattr__, __dir__ = lazy.modules_of(__name__)
