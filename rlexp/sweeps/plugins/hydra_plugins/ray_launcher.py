"""`hydra/launcher=ray`. Hydra finds plugins only in a package with this folder's name on the search path.

The code that uses Ray is in `rlexp/sweeps/ray_cluster.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict


class RayLauncher(Launcher):
    """Each job as a task of a Ray cluster.

    Args:
        address: of the cluster: auto, host:port, or None to start one for this sweep.
        num_cpus, num_gpus: of each job.
        max_retries: how often a job is started again after its node died.
        init: further arguments of `ray.init`.
        options: further options of `ray.remote`.
    """

    def __init__(
        self,
        address: str | None,
        num_cpus: float,
        num_gpus: float,
        max_retries: int,
        init: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        from rlexp.sweeps.ray_cluster import RayCluster

        plain: Any = OmegaConf.to_container(OmegaConf.create({"init": init, "options": options}), resolve=True)
        options = {**plain["options"], "num_cpus": num_cpus, "num_gpus": num_gpus}
        self._cluster = RayCluster(address, plain["init"], options, max_retries)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See Hydra's `Launcher`; raises `Refusal` if Ray is missing or an option is wrong."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        self._cluster.check()

    def connect(self) -> None:
        """Called by the sweeper before anything is written; raises `Refusal` if the cluster cannot be reached."""
        self._cluster.connect()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; returns the results of those that succeeded, in the same order."""
        self._cluster.connect()
        jobs = {
            number: partial(_job, self._compose(overrides, number), self.hydra_context, self.task_function, state)
            for state in [Singleton.get_state()]
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        }
        results = self._cluster.run(jobs)
        return [results[number] for number in sorted(results)]

    def _compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        """The configuration of job `number`."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = f"{config.hydra.job.name}_{number}"
            config.hydra.job.num = number
        return config


def _job(config: DictConfig, hydra_context: HydraContext, task_function: TaskFunction, singletons: Any) -> JobReturn:
    """Run one job; called in a worker."""
    setup_globals()
    Singleton.set_state(singletons)
    sweep = Path(config.hydra.sweep.dir)
    if not sweep.is_dir():
        raise FileNotFoundError(f"expected a folder that all nodes see, received {sweep}, which this one does not")
    return run_job(
        hydra_context=hydra_context,
        task_function=task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
