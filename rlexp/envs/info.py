"""The description of an environment, known before anything is trained in it."""

from __future__ import annotations

from dataclasses import dataclass

from rlexp.envs.spec import Discrete, Spec


@dataclass(frozen=True)
class EnvInfo:
    """What algorithms, buffers and engines need to know of an environment.

    Attributes:
        observation: what agents observe: float32, uint8 for bytes and booleans, int64 for numbered states.
        action: what agents choose.
        max_episode_steps: the time limit of an episode; None: no limit.
        rgb_array: can be rendered to pictures.
        tabular: made for algorithms with tables.
        num_states: of numbered states; None for everything else.
        masked: for algorithms with tables: an action mask follows the observation.
        table: has a transition table `P` over numbered states.
        restricted: the table lacks some actions in some states.
        is_table: the table describes the environment completely.
        small_numbers: of images: their numbers are not brightnesses from 0 to 255.
    """

    observation: Spec
    action: Spec
    max_episode_steps: int | None
    rgb_array: bool
    tabular: bool = False
    num_states: int | None = None
    masked: bool = False
    table: bool = False
    restricted: bool = False
    is_table: bool = False
    small_numbers: bool = False

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Of one observation."""
        return self.observation.shape

    @property
    def observation_dtype(self) -> str:
        """Of arrays that hold observations."""
        return self.observation.dtype

    @property
    def num_actions(self) -> int:
        """A, of Discrete actions; preflight refuses others for algorithms that choose among numbered actions."""
        assert isinstance(self.action, Discrete), "only Discrete actions have a number"
        return self.action.n
