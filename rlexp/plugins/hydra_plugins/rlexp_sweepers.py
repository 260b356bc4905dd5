"""The sweepers as Hydra finds them: it takes classes that are defined in a package of this folder's name only."""

from rlexp import search, sweeper


class Sweeper(sweeper.Sweeper):
    """`hydra/sweeper=rlexp`, the default: every combination, and a sweep finishes. See rlexp/sweeper.py."""


class Search(search.Search):
    """`hydra/sweeper=optuna`: a search for hyper-parameters. See rlexp/search.py."""
