"""Policies as distributions over actions: which one an environment's actions need, and the network that gives its
parameters.

    Discrete        categorical: logits
    MultiDiscrete   a product of categoricals: all their logits
    Box             Gaussian: mu by the network; log sigma a trained vector, the same in every state, or by the network

What is deployed of a Gaussian is the action itself: mu, squashed if it is tanh, scaled and clipped to the bounds.
"""

from __future__ import annotations

import math

import keras

from rlexp.algos.base import Make
from rlexp.config.schema.algos import PGSettings
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete, MultiDiscrete, Spec
from rlexp.math.action_distributions import Categorical, Distribution, Gaussian, MultiCategorical, TanhGaussian
from rlexp.networks.outputs import with_zero_logit


def distribution_of(action: Spec, config: PGSettings) -> Distribution:
    """The distribution over the actions of an environment."""
    if isinstance(action, Discrete):
        return Categorical(action.n)
    if isinstance(action, MultiDiscrete):
        return MultiCategorical(action.sizes, action.shape)
    return gaussian(action, config.distribution == "tanh_gaussian", clip_std=config.state_dependent_std)


def gaussian(action: Box, squashed: bool, clip_std: bool) -> Gaussian:
    """The Gaussian over the numbers of a Box, with its bounds; `clip_std` as of `Gaussian`."""
    low = [-math.inf if number is None else number for number in action.low or (None,)]
    high = [math.inf if number is None else number for number in action.high or (None,)]
    return (TanhGaussian if squashed else Gaussian)(action.shape, low, high, clip_std)


def policy_network(make: Make, info: EnvInfo, config: PGSettings) -> keras.Model:
    """The network of a policy: observations [B, ...] -> parameters of its distribution [B, *output_shape].

    A trained vector log sigma is the bias of a layer whose input is 0, and whose kernel stays 0. (As a kernel, with an
    input of 1, its gradient would be a product of two vectors, whose bits depend on the number of trials under XLA.)
    """
    if isinstance(info.action, Discrete):
        return make((info.action.n,)) if config.head == "softmax" else with_zero_logit(make((1,)))
    if isinstance(info.action, MultiDiscrete):
        return make(info.action.output_shape)
    size, start = math.prod(info.action.shape), config.log_std_init
    if config.state_dependent_std:
        network = make((size, 2))
        parameters = keras.layers.Rescaling(1.0, [0.0, start], name="log_std_init")(network.output)
    else:
        network = make((size,))
        mean = keras.layers.Identity(name="mean")(network.output)
        zero = keras.ops.zeros_like(keras.ops.sum(network.output, axis=-1, keepdims=True))
        init = keras.initializers.Constant(start)
        layer = keras.layers.Dense(size, kernel_initializer="zeros", bias_initializer=init, name="log_std")
        parameters = keras.ops.stack([mean, layer(zero)], axis=-1)
    return keras.Model(network.input, parameters, name="gaussian")


def action_model(model: keras.Model, action: Box, distribution: Gaussian) -> keras.Model:
    """The model that is deployed of a Gaussian: observations [B, ...] -> actions [B, *shape] within the bounds.

    Args:
        model: the policy's network; its first outputs are the parameters.  # [B, D, 2]
        action: what the environment takes.
        distribution: of the policy.
    """
    apart = any(layer.name == "mean" for layer in model.layers)  # from log sigma, which only trains
    mean = model.get_layer("mean").output if apart else keras.ops.take(model.outputs[0], 0, axis=-1)  # [B, D]
    if isinstance(distribution, TanhGaussian):
        mean = keras.ops.tanh(mean)
    scaled = keras.layers.Rescaling(distribution.scale.tolist(), distribution.centre.tolist(), name="scaled")(mean)
    low, high = (bound.astype("float32").ravel() for bound in action.bounds)
    clipped = keras.ops.minimum(keras.ops.maximum(scaled, low), high)
    return keras.Model(model.input, keras.layers.Reshape(action.shape, name="action")(clipped), name="policy")
