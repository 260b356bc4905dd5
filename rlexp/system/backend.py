"""Import TensorFlow quietly and choose its device: the one place where the process-wide state of TF is set."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator

from rlexp.system.errors import refusal

# Lines that TensorFlow writes to stderr when it is imported.
TENSORFLOWS = re.compile(
    rb"WARNING: All log messages before absl|[IWEF]\d{4} |\d{4}-\d\d-\d\d .*tensorflow/|To enable the foll"
)
EXACT_SUMS = "--xla_cpu_experimental_ynn_fusion_type="


def prepare(device: str) -> str:
    """Import TensorFlow, choose the device, and return "cpu" or "gpu".

    Args:
        device: auto (a GPU where there is one) | cpu | gpu.

    Raises:
        Refusal: for device=gpu where TensorFlow finds none.
    """
    set_environment(device)
    with quiet_stderr():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise refusal(
            "device", "auto or cpu on this machine (TensorFlow finds no GPU)", "'gpu'",
            "With an NVIDIA card: pip install 'rlexp[gpu]'",
        )  # fmt: skip
    with contextlib.suppress(RuntimeError):  # raised where TensorFlow is already running, as set before
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        else:
            for gpu in gpus:  # otherwise one process maps all of the memory
                tf.config.experimental.set_memory_growth(gpu, True)
    return "gpu" if gpus and device != "cpu" else "cpu"


def set_environment(device: str = "auto") -> None:
    """Set what TensorFlow reads of the environment when it is imported or first used; imports nothing.

    To be called before modules of other people are imported, which may import TensorFlow themselves.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # one source less of differences between machines
    # XLA would hand sums of 32,768 numbers or more, over all trials, to a library that adds in another order: a trial's
    # bits would depend on how many trials run beside it. Read when XLA is first used.
    if EXACT_SUMS not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {EXACT_SUMS}".strip()
    if device == "cpu":
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # saves the search for a driver
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # as below, for code that starts TensorFlow before it


@contextlib.contextmanager
def importing_others() -> Iterator[None]:
    """Around imports of other people's modules, which may import TensorFlow: it finds its environment, and is quiet."""
    set_environment()
    if "tensorflow" in sys.modules:
        yield
        return
    with quiet_stderr(show=lambda line: not TENSORFLOWS.match(line)):
        yield


@contextlib.contextmanager
def quiet_stderr(show: Callable[[bytes], object] = lambda line: False) -> Iterator[None]:
    """Hold back what is written to file descriptor 2, by C++ too: shown are the lines that `show` chooses, at the end.

    All are shown if the block raises. TensorFlow's first lines come before its log level counts, so that an environment
    variable cannot silence them.
    """
    try:
        target = sys.__stderr__.fileno() if sys.__stderr__ else 2
        saved = os.dup(target)
    except (OSError, ValueError):  # no real stderr here (some notebooks, pythonw)
        yield
        return
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        os.dup2(held.fileno(), target)
        try:
            yield
        except BaseException:
            os.dup2(saved, target)
            held.seek(0)
            os.write(target, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, target)
            os.close(saved)
        held.seek(0)
        os.write(target, b"".join(line for line in held if show(line)))
