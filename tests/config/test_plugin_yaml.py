"""Where the YAML of another package's algorithm or network is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlexp.config import plugin_yaml
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal

ALGO = "from rlexp.config import registry\nALGO = registry.ALGOS['random']\n"


def install(site: Path, module: str, yaml: str, text: str, name: str = "their_random") -> None:
    """A distribution whose entry point is in `module`, with a YAML at the path `yaml`."""
    info = site / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"{yaml},,\n")
    (info / "entry_points.txt").write_text(f"[rlexp.algos]\n{name} = {module}:ALGO\n")
    path = site / (module.replace(".", "/") + ".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ALGO)
    if "." in module:
        (site / module.partition(".")[0] / "__init__.py").write_text("raise ImportError('nobody imports it')")
    (site / yaml).parent.mkdir(parents=True, exist_ok=True)
    (site / yaml).write_text(text)


@pytest.mark.parametrize(
    ("module", "yaml"),
    [
        ("theirs", "their_random.yaml"),
        ("theirs.deep.algo", "theirs/deep/their_random.yaml"),
        ("theirs.algo", "theirs/conf/algo/their_random.yaml"),
        ("theirs", "share/theirs/conf/algo/their_random.yaml"),
    ],
    ids=["beside a module", "beside a module of a package", "conf of the package", "conf of the distribution"],
)
def test_it_is_found_without_importing_the_package(
    module: str, yaml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, module, yaml, "name: their_random\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert plugin_yaml.names("algo") == ["their_random"] and plugin_yaml.names("env") == []
    plugin_yaml.register()


def test_it_does_not_replace_ours_and_broken_ones_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "a", "theirs", "ddqn.yaml", "name: stolen\n", name="ddqn")
    monkeypatch.syspath_prepend(str(tmp_path / "a"))
    assert plugin_yaml.names("algo") == [] and compose("algo=ddqn").algo.name == "ddqn"
    install(tmp_path / "b", "theirs_too", "broken.yaml", "name: [", name="broken")
    monkeypatch.syspath_prepend(str(tmp_path / "b"))
    assert compose("algo=ddqn").algo.name == "ddqn"
    with pytest.raises(Refusal, match=r"algo: expected a YAML algo/broken\.yaml on the search path, received none"):
        compose("algo=broken")
