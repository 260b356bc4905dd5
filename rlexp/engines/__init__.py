"""What advances N trials: the host engine for any environment, the fused engine for tensor dynamics."""

from rlexp.system import lazy

__getattr__, __dir__ = lazy.modules_of(__name__)
