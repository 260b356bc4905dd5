"""Networks of users that are refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from rlexp.system.errors import Refusal

NETWORK = """
import keras
def make(shape, outputs, network):
    x = keras.Input({shape})
    return {result}
"""


@pytest.mark.parametrize(
    ("shape", "result", "said"),
    [
        ("shape", "keras.Model(x, keras.layers.Dense(3)(x))", "expected outputs of shape [B, 2], received 'net:make' with outputs of shape [B, 3]"),
        ("shape", "keras.Model(x, keras.ops.mean(x, axis=-1))", "expected outputs of shape [B, 2], received 'net:make' with outputs of shape [B]"),
        ("shape", "keras.Model(x, keras.layers.Dense(2, dtype='float16')(x))", "expected outputs of float32, received 'net:make' with outputs of float16"),
        ("shape", "keras.Model(x, [keras.layers.Dense(2)(x)] * 2)", "expected a functional Keras model with one input and one output, received"),
        ("(3,)", "keras.Model(x, keras.layers.Dense(2)(x))", "expected inputs of shape [B, 4], received 'net:make' with inputs of shape [B, 3]"),
        ("shape", "None", "expected a function that returns a keras.Model, received 'net:make', which returns NoneType"),
        ("shape", "{}['width']", "network: 'width'"),
    ],
)  # fmt: skip
def test_a_network_of_ones_own_is_refused_before_the_start(
    shape: str, result: str, said: str, tiny: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").write_text(NETWORK.replace("{shape}", shape).replace("{result}", result))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "net", raising=False)
    with pytest.raises(Refusal) as error:
        tiny("dqn", "network.name=net:make")
    assert said in str(error.value)
    monkeypatch.delitem(sys.modules, "net", raising=False)
