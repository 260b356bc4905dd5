"""The sweepers as Hydra finds them: it takes classes that are defined in a package of this folder's name only."""

from rlexp.sweeps import search_sweeper, sweeper


class Sweeper(sweeper.Sweeper):
    """`hydra/sweeper=rlexp`, the default: every combination, and a sweep finishes. See rlexp/sweeps/sweeper.py."""


class Search(search_sweeper.Search):
    """`hydra/sweeper=optuna`: a search for hyper-parameters. See rlexp/sweeps/search_sweeper.py."""
