"""The choice of the engine that runs a job."""

from __future__ import annotations

from rlexp.config import registry
from rlexp.config.schema.job import Settings
from rlexp.envs.info import EnvInfo
from rlexp.system.errors import refusal


def choose_engine(settings: Settings, info: EnvInfo) -> str:
    """The engine that runs a job: "host" or "fused".

    `auto` takes the one that is estimated to be sooner where both can, by the measured costs of `engines/costs.py`. On
    the host engine algorithms with tables start in a second, without TensorFlow: short jobs go there. Those with
    networks go to the fused engine unless the host is sooner for certain.

    Raises:
        Refusal: for engine=fused if it cannot run the job.
    """
    from rlexp.engines import costs

    reason = _why_not_fused(settings, info)
    if reason is None:
        return costs.sooner(settings, info, ("fused", "host")) if settings.engine == "auto" else settings.engine
    if settings.engine == "fused":
        raise refusal(
            "engine",
            "auto or host",
            f"'fused', but {reason}",
            "engine=host runs it: the same algorithm, configuration and metrics.",
        )
    return "host"


def _why_not_fused(settings: Settings, info: EnvInfo) -> str | None:
    """Why the fused engine cannot run a job; None if it can."""
    from rlexp.envs import tensor

    algo = settings.algo.name
    family = registry.family(algo)
    if registry.fused_loop(algo) is None:
        return f"algo {algo} has no fused loop"
    reason = tensor.why_not(settings.env, info)
    if reason is None and settings.env.workers > 1:
        reason = "env.workers is for environments that are stepped one by one"
    if reason is None and family.keras and settings.engine != "host":
        return _why_not_mapped(settings, info)
    return reason


def _why_not_mapped(settings: Settings, info: EnvInfo) -> str | None:
    """Why a network cannot be mapped over trials; builds it, which imports TensorFlow, if the registry cannot say."""
    name, known = settings.network.name, registry.is_mapped(settings.network, info.observation_shape)
    if known is not None:
        return None if known else f"network {name} is convolutional, which XLA maps over trials for small images only"
    from rlexp.system.backend import prepare

    prepare(settings.device)
    from rlexp.engines import mapping

    why = mapping.why_not(settings, info)
    return f"network {name} {why}" if why else None
