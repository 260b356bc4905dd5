"""Whether a network can be mapped over trials in an XLA program, found out from the model that was built.

Convolutions cannot: TensorFlow has no mapped form of them, since each trial has filters of its own. (Those of small
images are computed in patches instead: see `networks/patches.py`.) Nor can some other operations (resizing, for
example). Networks with such operations run as one copy per trial: see `engines/vectorized.py`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import tensorflow as tf

from rlexp.config import registry
from rlexp.config.schema.job import Settings
from rlexp.engines.vectorized import MIN_EXACT_LANES, Recent, mapped
from rlexp.envs.info import EnvInfo
from rlexp.networks.building import build
from rlexp.networks.flat_model import FlatModel
from rlexp.system.backend import quiet_stderr

_CONVOLUTION = re.compile(r"Conv(?!ert)")  # Conv2D, Conv3D, DepthwiseConv2dNative, Conv2DBackpropInput (transposed)
_BATCH = 2
_KNOWN: Recent[str | None] = Recent(64)  # of this process, by network and observations


def why_not(settings: Settings, info: EnvInfo, networks: Mapping[str, FlatModel] | None = None) -> str | None:
    """Why the network cannot be mapped, as the end of a sentence, or None where it can.

    Args:
        settings: of the job.
        info: its environment.
        networks: those of a trial, where they are built already.
    """
    if registry.is_mapped(settings.network, info.observation_shape):
        return None
    entry = registry.network(settings.network.name)
    made_of = [asdict(settings.network), settings.algo.name, info.observation_shape, asdict(info.action)]
    key = (registry.load(entry.target), json.dumps(made_of, sort_keys=True))

    def found() -> str | None:
        models = (networks or build(settings, info, settings.seed)).values()
        return next(filter(None, map(why_not_model, models)), None)

    return _KNOWN.get(key, found)


def why_not_model(model: FlatModel) -> str | None:
    """As `why_not`, found out by tracing and compiling a gradient, which takes tenths of a second."""
    shape = model.model.input_shape[1:]
    one = (tf.TensorSpec([model.size]), tf.TensorSpec([_BATCH, *shape]))

    def gradient(params: tf.Tensor, o_t: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(params)
            outputs = [tf.reduce_sum(tf.square(output)) for output in tf.nest.flatten(model(params, o_t))]
            total = tf.add_n(outputs)
        return tape.gradient(total, params)

    graph = tf.function(gradient, autograph=False).get_concrete_function(*one).graph.as_graph_def()
    operations = {node.op for node in graph.node}
    operations |= {node.op for function in graph.library.function for node in function.node_def}
    convolutions = sorted(name for name in operations if _CONVOLUTION.search(name))
    if convolutions:
        return f"has convolutions ({convolutions[0]}), which XLA cannot map over trials"
    with _quietly():
        try:
            lanes = [tf.zeros([MIN_EXACT_LANES, *spec.shape]) for spec in one]
            tf.function(mapped(gradient), jit_compile=True, autograph=False)(*lanes)
        except Exception as error:  # of TensorFlow or XLA, for whatever operation they do not know
            return f"has operations that XLA cannot map over trials ({_reason(error)})"
    return None


def _reason(error: Exception) -> str:
    """What TensorFlow says, without where it says it from."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith(("ValueError", "NotImplementedError"))), "")
    return re.sub(r"^\w+Error: ", "", said or (lines[0] if lines else type(error).__name__))[:120]


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the hundreds of lines that TensorFlow writes about an operation that it cannot map."""
    logger = tf.get_logger()
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with quiet_stderr():
            yield
    finally:
        logger.setLevel(before)
