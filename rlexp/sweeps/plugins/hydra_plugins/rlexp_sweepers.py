"""The sweepers. Hydra accepts only classes that are defined in a package with this folder's name."""

from rlexp.sweeps import search_sweeper, sweeper


class Sweeper(sweeper.Sweeper):
    """`hydra/sweeper=rlexp`, the default: runs every combination. See rlexp/sweeps/sweeper.py."""


class Search(search_sweeper.Search):
    """`hydra/sweeper=optuna`: a search for hyper-parameters. See rlexp/sweeps/search_sweeper.py."""
