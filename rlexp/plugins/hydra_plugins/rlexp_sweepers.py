"""The sweepers as Hydra finds them: it takes classes that are defined in a package of this folder's name only."""

from rlexp import sweeper


class Sweeper(sweeper.Sweeper):
    """`hydra/sweeper=rlexp`, the default: every combination, and a sweep finishes. See rlexp/sweeper.py."""
