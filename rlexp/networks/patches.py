"""A convolution as patches and one matrix product, which XLA maps over trials where it cannot map the convolution."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras


def compute_in_patches(layer: keras.layers.Conv2D) -> None:
    """Let a layer, without padding and with square kernels, compute its convolution in patches.

    The layer stays Keras' own: its weights have the same shapes and initial values, and a model that is saved with it
    is loaded by Keras alone, which computes the convolution in its own way.
    """
    layer.convolution_op = partial(convolve, stride=layer.strides[0])  # what the layer's `call` applies its kernel with


def convolve(images: Any, kernel: Any, stride: int) -> Any:
    """The convolution of images [B, H, W, C] with a kernel [k, k, C, F], without padding.  # [B, H', W', F]

    Every place of the kernel looks at the images from another corner. Side by side, these k * k views are the patches
    [B * H' * W', k * k * C], in the order of the kernel's own axes.
    """
    side, _, channels, filters = kernel.shape
    _, height, width, _ = images.shape
    rows, columns = (height - side) // stride + 1, (width - side) // stride + 1
    views = [
        images[:, i : i + (rows - 1) * stride + 1 : stride, j : j + (columns - 1) * stride + 1 : stride]
        for i in range(side)
        for j in range(side)
    ]
    patches = keras.ops.reshape(keras.ops.concatenate(views, axis=-1), (-1, side * side * channels))
    outputs = keras.ops.matmul(patches, keras.ops.reshape(kernel, (side * side * channels, filters)))
    return keras.ops.reshape(outputs, (-1, rows, columns, filters))
