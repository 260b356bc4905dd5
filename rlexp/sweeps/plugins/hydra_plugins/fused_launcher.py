"""`hydra/launcher=fused`. Hydra finds plugins only in a package with this folder's name on the search path.

The work is done in `rlexp/sweeps/launcher.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from omegaconf import open_dict, read_write


class FusedLauncher(BasicLauncher):
    """Hydra's basic launcher, for jobs that may be trained together.

    Args:
        max_trials: most trials of one program; a larger group is split into several programs.
    """

    def __init__(self, max_trials: int) -> None:
        super().__init__()
        self.max_trials = max_trials

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
        """Run the jobs; returns their results in the same order."""
        from rlexp.sweeps.launcher import Groups

        own = [[o for o in job if not o.startswith(("hydra.", "hydra/"))] for job in job_overrides]
        groups = Groups(map(self._compose, job_overrides), self.max_trials, own)
        task: Any = self.task_function
        self.task_function = partial(task, run_job=groups)
        try:
            return super().launch(job_overrides, initial_job_idx)
        finally:
            self.task_function = task

    def _compose(self, overrides: Sequence[str]) -> Any:
        """The configuration of one job, as its task will receive it."""
        assert self.config is not None and self.hydra_context is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with read_write(config), open_dict(config):
            del config["hydra"]
        return config
