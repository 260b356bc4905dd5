"""Names of jobs: the same before a job runs and from its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from rlexp.config.schema.algos import DQNSettings
from rlexp.config.schema.job import Settings
from rlexp.jobs.names import planned_names, stored_configs, stored_names


def settings(gamma: float) -> Settings:
    return Settings(algo=DQNSettings(gamma=gamma))


def stored(folder: Path, gamma: float = 0.9) -> Path:
    folder.mkdir(parents=True)
    job = replace(settings(gamma), engine="fused")
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(job.to_dict())))
    return folder


def test_a_planned_job_has_the_name_that_its_folder_will_have(tmp_path: Path) -> None:
    folders = [stored(tmp_path / f"dqn-{i}", gamma) for i, gamma in enumerate((0.9, 0.95))]
    planned = [settings(gamma).to_dict() for gamma in (0.95, 0.99)]
    names = ["dqn gamma=0.95", "dqn gamma=0.99"]
    assert planned_names(planned, stored_configs(folders).values()) == names
    assert planned_names(planned, []) == names
    folders.append(stored(tmp_path / "dqn-2", 0.99))
    assert [stored_names(folders)[folder] for folder in folders] == ["dqn gamma=0.9", *names]


def test_a_job_without_a_readable_configuration_is_named_after_its_folder(tmp_path: Path) -> None:
    good, broken, none = stored(tmp_path / "a"), tmp_path / "b", tmp_path / "c"
    for folder in (broken, none):
        folder.mkdir()
    (broken / "config.yaml").write_text("algo: !!python/object:os.system {}")
    assert stored_names([good, broken, none]) == {good: "dqn", broken: "b", none: "c"}
