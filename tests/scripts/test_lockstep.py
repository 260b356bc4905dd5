"""scripts/lockstep.py: the loops of a program, and what a turn of each calls."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HLO = """HloModule a

%inner.1 (p: (s32[], f32[2])) -> (s32[], f32[2]) {
  %p = (s32[], f32[2]{0}) parameter(0)
  %x = f32[2]{0} get-tuple-element(%p), index=1
  %f = f32[2]{0} fusion(%x), kind=kLoop, calls=%c
  ROOT %t = (s32[], /*index=1*/f32[2]{0}) tuple(%i, %f)
}

%outer (p: (s32[], f32[2])) -> (s32[], f32[2]) {
  %copy.1 = f32[2]{0} copy(%x)
  %dot.1 = f32[2]{0} dot(%x, %y), lhs_contracting_dims={1}
  %add.1 = f32[2]{0} add(%x, %y)
  %while.1 = (s32[], f32[2]{0}) while(%t), condition=%cond.1, body=%inner.1
  ROOT %while.2 = (s32[], f32[2]{0}) while(%t), condition=%cond.1, body=%inner.1
}

ENTRY %main (a: f32[2]) -> f32[2] {
  ROOT %while.3 = (s32[], f32[2]{0}) while(%t), condition=%cond.2, body=%outer
}
"""


def test_loops_are_named_by_their_place_and_count_what_they_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    sys.modules.pop("lockstep", None)
    import lockstep

    assert lockstep.loops(HLO) == [
        ("loop 1", {"copies": 1, "kernels": 1, "products": 1}),
        ("loop 1.1", {"kernels": 1}),
        ("loop 1.2", {"kernels": 1}),
    ]
