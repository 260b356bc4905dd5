"""Every loop of the registry is a `Loop`."""

from __future__ import annotations

import inspect

import pytest

from rlexp.config import registry
from rlexp.engines.loop import Loop
from rlexp.engines.services import Services

LOOPS = sorted(
    target for family in registry.FAMILIES.values() for target in (family.loop, family.fused) if target is not None
)


@pytest.mark.parametrize("target", LOOPS)
def test_it_has_the_members_of_the_protocol(target: str) -> None:
    loop = registry.load(target)
    for name, member in vars(Loop).items():
        if inspect.isfunction(member) and not name.startswith("_"):
            ours = inspect.signature(getattr(loop, name))
            assert list(ours.parameters) == list(inspect.signature(member).parameters)
            assert ours.return_annotation == inspect.signature(member).return_annotation
    _, services, *optional = list(inspect.signature(loop).parameters.values())
    assert services.annotation == Services.__name__
    assert all(parameter.default is not inspect.Parameter.empty for parameter in optional)
