"""Normal numbers from uniform ones."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def normal(u: tf.Tensor) -> tf.Tensor:
    """As many normal numbers as there are uniform ones in [0, 1): the transform of Box and Muller (1958).

    Args:
        u: uniform numbers, an even number W of them in the last axis.  # [..., W]
    """
    first, second = tf.split(u, 2, axis=-1)
    radius, angle = tf.sqrt(-2.0 * tf.math.log(1.0 - first)), 2.0 * np.pi * second  # 1 - u is never 0
    return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=-1)
