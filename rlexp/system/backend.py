"""Import of TensorFlow, without its start-up messages, and the choice of its device.

This module alone sets the process-wide state of TensorFlow.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator

from rlexp.system.errors import refusal

# Lines that TensorFlow writes to stderr when it is imported.
TENSORFLOW_LINES = re.compile(
    rb"WARNING: All log messages before absl|[IWEF]\d{4} |\d{4}-\d\d-\d\d .*tensorflow/|To enable the foll"
)
EXACT_SUMS = "--xla_cpu_experimental_ynn_fusion_type="
# Packages that TensorFlow and Keras do not require, but import where they are installed, for features that rlexp does
# not use: plots, data frames, wrappers for scikit-learn. MLflow requires most of them, so that they are always there.
OPTIONAL = ("cv2", "matplotlib", "pandas", "scipy", "sklearn")


def prepare(device: str, lean: bool = False) -> str:
    """Import TensorFlow, choose the device, and return "cpu" or "gpu".

    Args:
        device: auto (a GPU where there is one) | cpu | gpu.
        lean: import TensorFlow without the packages of `OPTIONAL`, which takes half the time. Keras then says of the
            features that need them that they are not installed: for processes that run rlexp's own code only.

    Raises:
        Refusal: for device=gpu if TensorFlow finds no GPU.
    """
    set_environment(device)
    with quiet_stderr(), lean_import() if lean and "tensorflow" not in sys.modules else contextlib.nullcontext():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise refusal(
            "device", "auto or cpu on this machine (TensorFlow finds no GPU)", "'gpu'",
            "With an NVIDIA card: pip install 'rlexp[gpu]'",
        )  # fmt: skip
    with contextlib.suppress(RuntimeError):  # TensorFlow has been initialised already: its devices are set
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        else:
            for gpu in gpus:  # by default one process reserves all of the memory
                tf.config.experimental.set_memory_growth(gpu, True)
    return "gpu" if gpus and device != "cpu" else "cpu"


def set_environment(device: str = "auto") -> None:
    """Set the environment variables that TensorFlow reads at import or first use; imports nothing.

    Call this before importing third-party modules, which may import TensorFlow themselves.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # one source of differences between machines less
    # By default XLA passes sums of 32,768 numbers or more, over all trials, to a library that adds in another order. A
    # trial's bits would then depend on the number of trials. XLA reads the flag at its first use.
    if EXACT_SUMS not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {EXACT_SUMS}".strip()
    if device == "cpu":
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # skips the search for a driver
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # as in `prepare`


@contextlib.contextmanager
def lean_import() -> Iterator[None]:
    """Around the import of TensorFlow: hide the packages of `OPTIONAL`, and switch the garbage collector off.

    The collector would go through a million objects again and again, of which none is garbage; at the end they are
    taken out of its sight.
    """
    finder, collects = _Hidden(), gc.isenabled()
    sys.meta_path.insert(0, finder)
    gc.disable()
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        gc.freeze()
        if collects:
            gc.enable()


class _Hidden:
    """Finds none of the packages of `OPTIONAL`; those that are imported already are not looked for."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Raise the error of a package that is not installed, which is what those who can do without it expect."""
        if name in OPTIONAL:
            raise ModuleNotFoundError(f"{name} is hidden while TensorFlow is imported", name=name)


@contextlib.contextmanager
def importing_others() -> Iterator[None]:
    """Around imports of third-party modules, which may import TensorFlow: set its environment, hide its messages."""
    set_environment()
    if "tensorflow" in sys.modules:
        yield
        return
    with quiet_stderr(show=lambda line: not TENSORFLOW_LINES.match(line)):
        yield


@contextlib.contextmanager
def quiet_stderr(show: Callable[[bytes], object] = lambda line: False) -> Iterator[None]:
    """Hold back everything written to file descriptor 2, also by C++; at the end print the lines that `show` accepts.

    If the block raises, all lines are printed. TensorFlow writes its first lines before it applies its log level, so an
    environment variable cannot silence them.
    """
    try:
        target = sys.__stderr__.fileno() if sys.__stderr__ else 2
        saved = os.dup(target)
    except (OSError, ValueError):  # stderr is not a file (some notebooks, pythonw)
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
