"""Whatever a call into an environment raises is one kind of error, and signals are none."""

from __future__ import annotations

import pytest

from rlexp.envs import faults, guard
from rlexp.system import stopping


@pytest.mark.parametrize(
    "error", [SystemExit(0), KeyboardInterrupt(), GeneratorExit(), StopIteration(), RuntimeError()]
)
def test_whatever_a_call_raises_is_one_kind_of_error(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def act() -> None:
        raise error

    monkeypatch.setattr(stopping, "handles_signals", lambda: True)
    with pytest.raises(faults.Misbehaved, match=f"^reset raised {type(error).__name__}"):
        guard.call("reset", act)


def test_signals_are_no_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    def act(error: BaseException) -> None:
        raise error

    with pytest.raises(stopping.Interrupted):
        guard.call("reset", act, stopping.Interrupted(2))
    monkeypatch.setattr(stopping, "handles_signals", lambda: False)  # rlexp.run in somebody's process: a real Ctrl-C
    with pytest.raises(KeyboardInterrupt):
        guard.call("reset", act, KeyboardInterrupt())
