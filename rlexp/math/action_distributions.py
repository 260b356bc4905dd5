"""Distributions over actions: what a policy's network parametrises, for one trial.

A distribution draws actions from outputs of a network and uniform numbers, and says how probable an action is.

    categorical        outputs are logits
    multi-categorical  independent categoricals side by side: a MultiDiscrete action
    gaussian           a = centre + scale (mu + sigma e), e normal: independent numbers around mu
    tanh-gaussian      a = centre + scale tanh(mu + sigma e): never beyond the bounds (Haarnoja et al. 2018, appendix C)

centre and scale are the middle and half the width of the action's bounds, 0 and 1 for a number without two bounds: so
mu = -1 and 1 are the bounds. Log-probabilities and entropies are those of the action itself: each number's scale
counts with -log and log. A Gaussian's action may lie beyond the bounds. Whoever takes the step clips it; its
log-probability is that of the action as it was drawn.

Axes: B rows, A actions, K components, D numbers of an action, W uniform numbers, H nodes.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from rlexp.math.normal import normal
from rlexp.math.targets import batched_index

LOG_STD_RANGE = (-20.0, 2.0)  # of deviations that a network computes: Haarnoja's
EDGE = 1e-5  # distance from -1 and 1 within which the inverse of tanh is not taken: there float32 tells no two apart
HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(16)  # of Gauss and Hermite: E f(e) = sum_h w_h f(x_h)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


class Distribution(abc.ABC):
    """Draws actions, and knows their probabilities.

    Attributes:
        output_shape: of what a network returns for an observation.
        num_uniforms: W, numbers that one action is drawn with.
    """

    output_shape: tuple[int, ...]
    num_uniforms: int

    @abc.abstractmethod
    def sample(self, outputs: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """Actions [B, *action shape] drawn with uniform numbers in [0, 1).  # [B, *output_shape], [B, W]"""

    @abc.abstractmethod
    def mode(self, outputs: tf.Tensor) -> tf.Tensor:
        """The actions [B, *action shape] that a greedy policy takes, within the bounds.  # [B, *output_shape]"""

    @abc.abstractmethod
    def log_prob_and_entropy(self, outputs: tf.Tensor, actions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Log-probabilities of actions [B, *action shape], and entropies: one gradient through both.  # [B], [B]"""

    def log_prob(self, outputs: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
        """Log-probabilities [B], or log-densities, of actions [B, *action shape]."""
        return self.log_prob_and_entropy(outputs, actions)[0]

    @abc.abstractmethod
    def entropy(self, outputs: tf.Tensor) -> tf.Tensor:
        """Entropies [B] in nats."""


class Categorical(Distribution):
    """One of `number` actions, counted from 0; outputs are logits [B, A]."""

    num_uniforms = 1

    def __init__(self, number: int) -> None:
        self.output_shape = (number,)

    def sample(self, outputs: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """int32 [B]: action 0 where u <= pi(0)."""
        below = tf.cumsum(tf.nn.softmax(outputs), axis=-1)[:, :-1]  # [B, A - 1]
        return tf.reduce_sum(tf.cast(u > below, tf.int32), axis=-1)

    def mode(self, outputs: tf.Tensor) -> tf.Tensor:
        return tf.argmax(outputs, axis=-1, output_type=tf.int32)

    def log_prob_and_entropy(self, outputs: tf.Tensor, actions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        log_pi = tf.nn.log_softmax(outputs)  # [B, A]
        return batched_index(log_pi, actions), -tf.reduce_sum(tf.exp(log_pi) * log_pi, axis=-1)

    def entropy(self, outputs: tf.Tensor) -> tf.Tensor:
        log_pi = tf.nn.log_softmax(outputs)
        return -tf.reduce_sum(tf.exp(log_pi) * log_pi, axis=-1)


class MultiCategorical(Distribution):
    """K independent categoricals; outputs are all their logits, one after the other.  # [B, sum of sizes]

    Args:
        sizes: how many actions each has.  # K numbers
        shape: of an action, an array of K numbers; default: (K,).
    """

    def __init__(self, sizes: Sequence[int], shape: Sequence[int] | None = None) -> None:
        self.sizes, self.shape = tuple(sizes), (len(sizes),) if shape is None else tuple(shape)
        self.output_shape, self.num_uniforms = (sum(sizes),), len(sizes)
        self._parts = [Categorical(size) for size in sizes]

    def sample(self, outputs: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """int32 [B, *shape], each component with a number of its own."""
        pairs = zip(self._parts, self._split(outputs), tf.split(u, len(self.sizes), axis=-1), strict=True)
        return self._stacked([part.sample(logits, number) for part, logits, number in pairs])

    def mode(self, outputs: tf.Tensor) -> tf.Tensor:
        return self._stacked(
            [part.mode(logits) for part, logits in zip(self._parts, self._split(outputs), strict=True)]
        )

    def log_prob_and_entropy(self, outputs: tf.Tensor, actions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        columns = tf.unstack(tf.reshape(actions, (-1, len(self.sizes))), axis=-1)
        of = zip(self._parts, self._split(outputs), columns, strict=True)
        log_probs, entropies = zip(*(part.log_prob_and_entropy(logits, a) for part, logits, a in of), strict=True)
        return tf.add_n(log_probs), tf.add_n(entropies)

    def entropy(self, outputs: tf.Tensor) -> tf.Tensor:
        return tf.add_n([part.entropy(logits) for part, logits in zip(self._parts, self._split(outputs), strict=True)])

    def _split(self, outputs: tf.Tensor) -> list[tf.Tensor]:
        parts: list[tf.Tensor] = tf.split(outputs, self.sizes, axis=-1)
        return parts

    def _stacked(self, columns: list[tf.Tensor]) -> tf.Tensor:
        return tf.reshape(tf.stack(columns, axis=-1), (-1, *self.shape))


class Gaussian(Distribution):
    """D independent normal numbers; outputs are mu and log sigma of each, in units of `scale`.  # [B, D, 2]

    Args:
        shape: of an action, an array of D numbers.
        low, high: its bounds, in C order, infinite where there is none.  # [D] or one number
        clip_std: keep log sigma in `LOG_STD_RANGE`, where a network computes it.
    """

    def __init__(
        self,
        shape: Sequence[int],
        low: Sequence[float] | float = -math.inf,
        high: Sequence[float] | float = math.inf,
        clip_std: bool = False,
    ) -> None:
        self.shape, self.size, self._clip_std = tuple(shape), math.prod(shape), clip_std
        bounds = [np.broadcast_to(np.asarray(bound, np.float64), (self.size,)) for bound in (low, high)]
        self.low, self.high = (bound.astype(np.float32) for bound in bounds)
        bounded = np.isfinite(bounds).all(axis=0)
        least, most = np.where(bounded, bounds[0], -1.0), np.where(bounded, bounds[1], 1.0)
        self.centre, self.scale = ((0.5 * (most + sign * least)).astype(np.float32) for sign in (1, -1))
        self.output_shape, self.num_uniforms = (self.size, 2), self.size + self.size % 2
        self._log_scale = float(np.log(self.scale).sum())

    def sample(self, outputs: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """float32 [B, *shape], which may lie beyond the bounds; squashed ones lie within them but for rounding."""
        return self._action(self._drawn(*self._parts(outputs), u))

    def mode(self, outputs: tf.Tensor) -> tf.Tensor:
        return self._action(self._parts(outputs)[0], clip=True)

    def log_prob_and_entropy(self, outputs: tf.Tensor, actions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean, log_std = self._parts(outputs)
        z = (tf.reshape(actions, (-1, self.size)) - self.centre) / self.scale  # [B, D]
        return self._log_density(z, mean, log_std), self._entropy(mean, log_std)

    def entropy(self, outputs: tf.Tensor) -> tf.Tensor:
        return self._entropy(*self._parts(outputs))

    def sample_and_log_prob(self, outputs: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Actions as `sample` draws them, and their log-probabilities [B]: gradients pass through both to `outputs`."""
        mean, log_std = self._parts(outputs)
        z = self._drawn(mean, log_std, u)
        return self._action(z), self._log_density(z, mean, log_std)

    def _parts(self, outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """mu and log sigma.  # [B, D] each"""
        mean, log_std = tf.unstack(outputs, num=2, axis=-1)
        return mean, tf.clip_by_value(log_std, *LOG_STD_RANGE) if self._clip_std else log_std

    def _drawn(self, mean: tf.Tensor, log_std: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        return mean + tf.exp(log_std) * normal(u)[:, : self.size]

    def _action(self, z: tf.Tensor, clip: bool = False) -> tf.Tensor:
        action = self.centre + self.scale * z
        if clip:
            action = tf.clip_by_value(action, self.low, self.high)
        return tf.reshape(action, (-1, *self.shape))

    def _log_density(self, z: tf.Tensor, mean: tf.Tensor, log_std: tf.Tensor) -> tf.Tensor:
        """Of the actions that z [B, D] becomes.  # [B]"""
        apart = (z - mean) * tf.exp(-log_std)
        return tf.reduce_sum(-0.5 * tf.square(apart) - log_std - HALF_LOG_TWO_PI, axis=-1) - self._log_scale

    def _entropy(self, mean: tf.Tensor, log_std: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(log_std + (HALF_LOG_TWO_PI + 0.5), axis=-1) + self._log_scale


class TanhGaussian(Gaussian):
    """A Gaussian squashed to its bounds, all of which are finite.

    `mode` is tanh(mu), the median, as is usual. `log_prob` takes the inverse of tanh, and so no action nearer to a
    bound than `EDGE`. mu counts as no nearer either: else a policy that has moved far beyond would find its own actions
    most improbable, and ratios of probabilities would overflow. `sample_and_log_prob` needs no inverse.

    The entropy has no closed form: it is the Gaussian's plus the mean of log(1 - tanh^2), by Gauss and Hermite's rule
    (error below .004 for sigma up to 2, .06 up to 4).
    """

    def log_prob_and_entropy(self, outputs: tf.Tensor, actions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean, log_std = self._parts(outputs)
        squashed = (tf.reshape(actions, (-1, self.size)) - self.centre) / self.scale
        z = tf.atanh(tf.clip_by_value(squashed, EDGE - 1.0, 1.0 - EDGE))
        near = tf.clip_by_value(mean, -math.atanh(1.0 - EDGE), math.atanh(1.0 - EDGE))
        return self._log_density(z, near, log_std), self._entropy(mean, log_std)

    def _action(self, z: tf.Tensor, clip: bool = False) -> tf.Tensor:
        return super()._action(tf.tanh(z), clip)

    def _log_density(self, z: tf.Tensor, mean: tf.Tensor, log_std: tf.Tensor) -> tf.Tensor:
        return super()._log_density(z, mean, log_std) - tf.reduce_sum(_log_slope(z), axis=-1)

    def _entropy(self, mean: tf.Tensor, log_std: tf.Tensor) -> tf.Tensor:
        z = mean[..., None] + tf.exp(log_std)[..., None] * NODES.astype(np.float32)  # [B, D, H]
        slope = tf.reduce_sum(_log_slope(z) * WEIGHTS.astype(np.float32), axis=-1)
        return super()._entropy(mean, log_std) + tf.reduce_sum(slope, axis=-1)


def _log_slope(z: tf.Tensor) -> tf.Tensor:
    """log(1 - tanh(z)^2), without the difference that float32 loses: 2 (log 2 - z - softplus(-2 z))."""
    return 2.0 * (math.log(2.0) - z - tf.math.softplus(-2.0 * z))
