"""Checks of a job before TensorFlow is imported or anything is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlexp.config import registry
from rlexp.config.schema.algos import TabularSettings
from rlexp.config.schema.job import Settings
from rlexp.system import backend
from rlexp.tracking.addresses import resolve_uri

if TYPE_CHECKING:
    from rlexp.envs.info import EnvInfo


_resolved: list[Path] = []  # the folder of the job that was resolved last


def resolve(settings: Settings) -> tuple[Settings, EnvInfo]:
    """The settings with the engine that will run them, and so with the job's real folder; refusals as `preflight`."""
    from rlexp.jobs.engine_choice import choose_engine

    forget()
    info = preflight(settings)
    settings = replace(settings, engine=choose_engine(settings, info))
    _resolved.append(settings.folder)
    return settings, info


def last_folder() -> Path | None:
    """The folder of the job that was resolved last; None if it was refused."""
    return _resolved[0] if _resolved else None


def forget() -> None:
    """Let `last_folder` be None until another job is resolved."""
    _resolved.clear()


def preflight(settings: Settings) -> EnvInfo:
    """Check a job against its environment.

    Returns:
        The environment's description.

    Raises:
        Refusal: for everything that can be refused without TensorFlow.
    """
    # What Gymnasium and the configuration import may import TensorFlow.
    backend.set_environment(settings.device if registry.brings_code(settings) else "auto")
    from rlexp.envs import inspection

    if "mlflow" in settings.tracking.names:
        resolve_uri(settings.tracking.uri, Path(settings.output_dir))  # refuses addresses that hold a password
    info = inspection.inspect(settings.env, tabular=registry.family(settings.algo.name).tabular)
    check(settings, info)
    _check_size(settings, info)
    return info


def check(settings: Settings, info: EnvInfo) -> None:
    """Raise `Refusal` for an algorithm or a network that does not suit an environment, but for their size.

    Args:
        settings: of the job.
        info: of its environment, as algorithms with tables see it if the job's is one of them.
    """
    from rlexp.jobs import environment_checks, network_checks

    algo, family = settings.algo, registry.family(settings.algo.name)
    environment_checks.check_actions(settings, info)
    environment_checks.check_table(settings, info)
    if isinstance(algo, TabularSettings):
        environment_checks.check_states(settings, algo, info)
    if check := getattr(algo, "check_env", None):
        check(settings.env.id, info)
    if family.keras:
        network_checks.check_network(settings, info)


def _check_size(settings: Settings, info: EnvInfo) -> None:
    """Raise `Refusal` for rings or weights that do not fit in memory."""
    from rlexp.jobs import network_checks

    if registry.algo(settings.algo.name).family == "replay":
        _check_ring(settings, info)
    if registry.algo(settings.algo.name).family == "rollout":
        _check_batch(settings, info)
    if registry.family(settings.algo.name).keras:
        network_checks.check_dense_size(settings, info)


def _check_ring(settings: Settings, info: EnvInfo) -> None:
    """Raise `Refusal` for replay rings that do not fit in memory."""
    from rlexp.engines.memory import check_memory, replay_bytes

    what = f"rings of {settings.algo.replay_size} transitions"
    check_memory("algo.replay_size", what, replay_bytes(settings, info), settings.trials)


def _check_batch(settings: Settings, info: EnvInfo) -> None:
    """Raise `Refusal` for batches of rollouts that do not fit in memory."""
    from rlexp.engines.memory import check_memory, rollout_bytes

    what = f"batches of {settings.algo.batch_size} transitions"
    check_memory("algo.batch_size", what, rollout_bytes(settings, info), settings.trials)
