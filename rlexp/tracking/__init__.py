"""Where records go besides the job folder: delivery to a tracker, off the training path."""

from rlexp.system import lazy

__getattr__, __dir__ = lazy.modules_of(__name__)
