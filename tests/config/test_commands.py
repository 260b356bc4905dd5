"""The command that runs a job again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rlexp.config import commands


@pytest.mark.parametrize(
    ("overrides", "command"),
    [
        (None, None),
        ([], "rlexp"),
        (["algo=dqn", "trials=3"], "rlexp algo=dqn trials=3"),
        (["+sweep=x"], "rlexp +sweep=x hydra.mode=RUN"),
        (["study=a b", "tracking.uri=http://me:secret@host"], "rlexp 'study=a b' 'tracking.uri=http://***:***@host'"),
    ],
)
def test_the_command_of_a_job_alone(overrides: Sequence[str] | None, command: str | None) -> None:
    assert commands.of_job({"overrides": overrides}) == command
