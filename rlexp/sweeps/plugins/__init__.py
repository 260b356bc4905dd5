"""What this package adds to Hydra: the folder beside this file is a part of the namespace package `hydra_plugins`."""

from __future__ import annotations

import sys
from pathlib import Path


def register() -> None:
    """Make Hydra find it in this process: in a checkout, a wheel, an editable installation alike."""
    from hydra.core.plugins import Plugins

    folder = str(Path(__file__).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    known = Plugins.instance()  # finds them, unless it had looked for plugins before
    from hydra_plugins.fused_launcher import FusedLauncher
    from hydra_plugins.ray_launcher import RayLauncher
    from hydra_plugins.rlexp_sweepers import Search, Sweeper

    for plugin in (FusedLauncher, RayLauncher, Search, Sweeper):
        known.register(plugin)
