"""The plugins for Hydra: the folder beside this file is part of the namespace package `hydra_plugins`."""

from __future__ import annotations

import sys
from pathlib import Path


def register() -> None:
    """Register the plugins in this process, whether rlexp runs from a checkout, a wheel or an editable installation."""
    from hydra.core.plugins import Plugins

    folder = str(Path(__file__).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    known = Plugins.instance()  # finds the plugins, unless it has searched before
    from hydra_plugins.fused_launcher import FusedLauncher
    from hydra_plugins.ray_launcher import RayLauncher
    from hydra_plugins.rlexp_sweepers import Search, Sweeper

    for plugin in (FusedLauncher, RayLauncher, Search, Sweeper):
        known.register(plugin)
