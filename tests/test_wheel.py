"""The wheel holds `conf/` and works from anywhere, as the checkout does."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean virtual environment with the wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("rlexp-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "rlexp/conf/config.yaml" in names and "rlexp/conf/experiment/book/dueling_ddqn.yaml" in names
    assert "rlexp/sweeps/plugins/hydra_plugins/fused_launcher.py" in names and "rlexp/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "scripts/", "conf/"))]
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True, capture_output=True
    )
    (site,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    others = [p for p in sys.path if p.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(others) + "\n")
    return folder / "venv" / "bin"


def run(*args: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(args, cwd=cwd, capture_output=True, text=True, env=environment, timeout=120)


def test_the_wheel_finds_its_own_conf(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "from rlexp.config import paths; print(paths.conf_dir())", cwd=tmp_path)
    assert where.stdout.strip().startswith(str(installed.parent)) and where.stdout.strip().endswith("rlexp/conf")


def test_the_checkout_finds_the_conf_beside_the_package() -> None:
    from rlexp.config.paths import conf_dir

    assert conf_dir() == ROOT / "conf"


@pytest.mark.parametrize("command", [pytest.param(["rlexp"], marks=pytest.mark.slow), ["python", "-m", "rlexp"]])
def test_a_job_runs_from_the_wheel(command: list[str], installed: Path, tmp_path: Path) -> None:
    args = ["algo=random", "trials=2", "budget.steps=60", "tracking=files", "animation.enabled=false"]
    result = run(installed / command[0], *command[1:], *args, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "outputs" / "default").iterdir()
    assert (folder / "summary.json").is_file()


@pytest.mark.slow
def test_the_launcher_is_found_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    sweep = ["-m", "hydra/launcher=fused", "algo=random,angle_policy", "trials=1", "budget.steps=60"]
    result = run(installed / "rlexp", *sweep, "tracking=files", "animation.enabled=false", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "outputs" / "default").glob("*/summary.json"))) == 2
