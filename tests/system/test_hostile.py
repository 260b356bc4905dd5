"""Files that somebody else made: nothing in them is executed, and each ends in a clear sentence."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlexp
from rlexp.cli.play import main as play
from rlexp.data.checkpoint import Checkpoints, _write_sealed
from rlexp.system.errors import Refusal

EXECUTED: list[Any] = []


def boom(*args: Any, **kwargs: Any) -> str:
    """What no file may get to run."""
    EXECUTED.append((args, kwargs))
    return ""


class Bomb:
    """Goes off where it is unpickled."""

    def __reduce__(self) -> Any:
        return boom, ("unpickled",)


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def encrypted(archive: bytes) -> bytes:
    """One that says of its first member that it is encrypted."""
    flags = archive.index(b"PK\x01\x02") + 8  # in the central directory
    return archive[:flags] + b"\x01" + archive[flags + 1 :]


def member(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


PICKLED = np.array([Bomb()], dtype=object)
TABLES: dict[str, bytes] = {
    "pickled array": npz(q=PICKLED),
    "pickle in place of npz": pickle.dumps(Bomb()),
    "pickle in the zip": member("q.npy", pickle.dumps(Bomb())),
    "npy with objects": header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n") + pickle.dumps(Bomb()),
    "code in the header": member("q.npy", header("__import__('tests.system.test_hostile').test_hostile.boom('header')\n")),
    "a shape that nobody has memory for": member("q.npy", header("{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 64), }\n")),
    "negative shape": member("q.npy", header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 4), }\n")),
    "no table": npz(p=np.zeros((16, 4))),
    "wrong axes": npz(q=np.zeros(64)),
    "wrong type": npz(q=np.array([["a"] * 4] * 16)),
    "wrong actions": npz(q=np.zeros((16, 5))),
    "wrong states": npz(q=np.zeros((15, 4))),
    "a name that climbs": member("../../q.npy", b""),
    "empty": b"",
    "text": b"q = [[0, 0]]",
    "cut": npz(q=np.zeros((16, 4)))[:300],
    "zip with nothing": member("x", b"")[:22],
    "encrypted flag": encrypted(npz(q=np.zeros((16, 4)))),
}  # fmt: skip


@pytest.fixture(scope="module")
def table_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = rlexp.run("algo=q_learning", "env=frozen_lake", "trials=1", "budget.steps=30", "tracking=files", "animation.enabled=false",
                    "evaluation.num_episodes=1", "evaluation.final_episodes=1", "evaluation.candidate_episodes=1",
                    f"output_dir={tmp_path_factory.mktemp('hostile')}", quiet=True)  # fmt: skip
    return Path(job.folder)


@pytest.fixture
def copy(table_job: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(table_job, tmp_path / "out" / "study" / "job"))


@pytest.fixture(autouse=True)
def nothing_is_executed(monkeypatch: pytest.MonkeyPatch) -> Any:
    EXECUTED.clear()
    monkeypatch.setattr(os, "system", boom)
    yield
    assert EXECUTED == []


def test_the_bomb_works() -> None:
    """Else none of the other tests could fail."""
    pickle.loads(TABLES["pickle in place of npz"])
    np.load(io.BytesIO(TABLES["pickled array"]), allow_pickle=True)["q"]
    assert EXECUTED == [(("unpickled",), {})] * 2
    EXECUTED.clear()


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *args: str) -> str:
    """What `rlexp play` says of a folder."""
    assert play([str(folder), "--max-steps", "3", "--output", str(folder / "x.gif"), *args]) == 2
    said = capsys.readouterr().err
    assert said and len(said.splitlines()) <= 2 and "Traceback" not in said
    return said


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "trials" / "0" / "best.npz").write_bytes(TABLES[name])
    assert "expected" in refused(capsys, copy)


@pytest.mark.parametrize("name", TABLES)
def test_checkpoints(name: str, tmp_path: Path) -> None:
    """Also where somebody has made a digest that fits."""
    checkpoints = Checkpoints(tmp_path, every=0, keep=9)
    checkpoints.save(1, {"trials": {}, "loop": {}, "step": 1})
    (tmp_path / "000000000002.npz").write_bytes(TABLES[name])
    warnings: list[str] = []
    loaded = checkpoints.load(warnings.append)
    assert loaded is not None and loaded["step"] == 1
    assert len(warnings) == 1 and len(warnings[0].splitlines()) == 1


@pytest.mark.parametrize("arrays", [
    {"tree": PICKLED},
    {"tree": np.frombuffer(b"[" * 100_000, np.uint8)},
    {"tree": np.frombuffer(b'{"array": "a0"}', np.uint8), "a0": PICKLED},
    {"tree": np.frombuffer(b'{"dict": {"trials": {"array": "missing"}}}', np.uint8)},
    {"tree": np.frombuffer(b'{"value": 3}', np.uint8)},
    {"tree": np.frombuffer(b'{"a": 1, "b": 2}', np.uint8)},
    {"tree": np.zeros(3)},
], ids=range(7))  # fmt: skip
def test_sealed_checkpoints(arrays: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = np.savez
    monkeypatch.setattr(np, "savez", lambda file, allow_pickle, **arrays: real(file, **arrays))
    with (tmp_path / "000000000001.npz").open("w+b") as file:
        _write_sealed(file, arrays)
    warnings: list[str] = []
    assert Checkpoints(tmp_path, every=0, keep=9).load(warnings.append) is None
    assert len(warnings) == 1 and "checksum" not in warnings[0]


CONFIGS: dict[str, str] = {
    "tag that calls": "algo: !!python/object/apply:tests.system.test_hostile.boom ['yaml']",
    "tag that names": "algo: !!python/name:os.system",
    "module tag": "algo: !!python/module:antigravity",
    "aliases": "a: &a [x, x]\nb: &b [*a, *a]\nalgo: [*b, *b]",
    "list": "- 1\n- 2",
    "nothing": "",
    "broken": "algo: {name: [",
    "nul": "algo: \x00",
    "study that climbs": "study: ../../../elsewhere",
    "study that is absolute": "study: /etc",
    "environment that climbs": "env.name: ../..",
    "unknown algorithm": "algo.name: ../../etc",
    "unknown key": "hack: 1",
    "module of the folder": "env.imports: [evil]",
    "environment of the folder": "env.id: 'evil:Evil-v0'",
    "package of the folder": "env.imports: [evilpackage.inner]",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations(
    name: str, copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that change one key of a good one, and those that are anything else."""
    import yaml

    key, _, value = CONFIGS[name].partition(": ")
    good = yaml.safe_load((copy / "config.yaml").read_text())
    if key.split(".")[0] in ("study", "env", "hack") or key == "algo.name":
        node = good
        for part in key.split(".")[:-1]:
            node = node[part]
        node[key.split(".")[-1]] = yaml.safe_load(value)
        (copy / "config.yaml").write_text(yaml.safe_dump(good))
    else:
        (copy / "config.yaml").write_text(CONFIGS[name])
    evil = "import tests.system.test_hostile; tests.system.test_hostile.boom('imported')\n"
    (copy / "evil.py").write_text(evil)
    (copy.parent / "evilpackage").mkdir()
    for file in ("__init__.py", "inner.py"):
        (copy.parent / "evilpackage" / file).write_text(evil)
    monkeypatch.chdir(copy)
    monkeypatch.setattr(sys, "path", ["", str(copy.parent), *sys.path])
    assert str(copy / "config.yaml") in refused(capsys, copy)


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "{}", '{"best_seed": 1e999}', '{"best_seed": {}}', '{"best_seed": "../.."}', "\x00"])  # fmt: skip
def test_summaries_are_no_danger(content: str, copy: Path) -> None:
    (copy / "summary.json").write_text(content)
    assert rlexp.load_policy(copy).seed == 0


def keras_file(config: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1", "date_saved": "2026-01-01"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", b"")
    return file.getvalue()


def sequential(module: str, class_name: str, /, **config: Any) -> Any:
    layers = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 4], "name": "i"}, "registered_name": None},
        {"module": module, "class_name": class_name, "config": config, "registered_name": None},
    ]  # fmt: skip
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "s", "layers": layers},
        "registered_name": None,
    }


def function(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


MODELS: dict[str, bytes] = {
    "class that is a function": keras_file({"module": "tests.system.test_hostile", "class_name": "boom", "config": {"key": 1}, "registered_name": None}),
    "function of os": keras_file({"module": "builtins", "class_name": "function", "config": "os.system", "registered_name": "os.system"}),
    "layer of os": keras_file(sequential("tests.system.test_hostile", "boom", key=1)),
    "Lambda with a function": keras_file(sequential("keras.layers", "Lambda", function=function("tests.system.test_hostile", "boom"), arguments={"command": "true"})),
    "Lambda with bytecode": keras_file(sequential("keras.layers", "Lambda", function={"class_name": "__lambda__", "config": {"code": "4wAA", "defaults": None, "closure": None}})),
    "activation of os": keras_file(sequential("keras.layers", "Dense", units=2, activation=function("tests.system.test_hostile", "boom"))),
    "activation that downloads": keras_file(sequential("keras.layers", "Activation", activation=function("keras.utils", "get_file"))),
    "saved model": keras_file(sequential("keras.layers", "TFSMLayer", filepath="/nowhere", call_endpoint="serve")),
    "torch": keras_file(sequential("keras.layers", "TorchModuleWrapper", module="gASV")),
    "vocabulary that reads a file": keras_file(sequential("keras.layers", "StringLookup", vocabulary="/etc/passwd")),
    "no config": member("x", b""),
    "empty": b"",
    "pickle": pickle.dumps(Bomb()),
    "text": b"model",
    "a config that is a list": keras_file([1, 2]),
    "a config of other kind": keras_file({"module": "keras.optimizers", "class_name": "Adam", "config": {}, "registered_name": "Adam"}),
    "weights that are none": keras_file(sequential("keras.layers", "Dense", units=2)),
}  # fmt: skip


@pytest.fixture(scope="module")
def keras_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job with a network, as far as loading needs it."""
    from omegaconf import OmegaConf

    from rlexp.jobs.runner import compose

    folder = tmp_path_factory.mktemp("keras") / "study" / "job"
    (folder / "trials" / "0").mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(compose("algo=dqn", "trials=1").to_dict())))
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_keras_files(name: str, keras_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (keras_folder / "trials" / "0" / "best.keras").write_bytes(MODELS[name])
    said = refused(capsys, keras_folder)
    assert (
        "expected a Keras model that loads in safe mode, received: " in said
        or "expected weights for observations" in said
    )


def test_names_stay_in_the_output_folder(tmp_path: Path) -> None:
    """Whatever passes the check of names is a folder directly below its parent."""
    import dataclasses

    from rlexp.config.checks import check_names
    from rlexp.jobs.runner import compose

    base = compose(f"output_dir={tmp_path}")
    for name in ("a", "a.b", "x+y", "1-2_3", "a..b"):
        settings = dataclasses.replace(base, study=name, env=dataclasses.replace(base.env, name=name))
        check_names(settings)
        assert settings.folder.resolve().parent.parent == tmp_path
    for name in ("..", "../x", "a/../..", "/x", "~", ".", "a\\b", "-", "", "a\n", "a b", "a\0"):
        for settings in (
            dataclasses.replace(base, study=name),
            dataclasses.replace(base, env=dataclasses.replace(base.env, name=name)),
            dataclasses.replace(base, algo=dataclasses.replace(base.algo, name=name)),
        ):
            with pytest.raises(Refusal, match="it names a folder"):
                check_names(settings)


def test_at_least_30_files() -> None:
    assert len(TABLES) * 2 + len(CONFIGS) + len(MODELS) + 7 + 7 >= 30
