"""The sweepers as Hydra finds them: it takes classes that are defined in a package of this folder's name only."""

from rlexp.sweeps import sweeper
from rlexp.sweeps.search import search


class Sweeper(sweeper.Sweeper):
    """`hydra/sweeper=rlexp`, the default: every combination, and a sweep finishes. See rlexp/sweeps/sweeper.py."""


class Search(search.Search):
    """`hydra/sweeper=optuna`: a search for hyper-parameters. See rlexp/sweeps/search/search.py."""
