"""Folders and MLflow servers of somebody else's: nothing of theirs is executed, written elsewhere, or sent anywhere."""

from __future__ import annotations

import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

import rlexp
from rlexp.cli import best, ls
from rlexp.cli import sync as sync_command
from rlexp.cli.play import main as play
from rlexp.cli.report import main as report
from rlexp.jobs import origin
from rlexp.system import archives, folder_lock, links, names, stored_modules, stored_yaml, text
from rlexp.system.errors import Refusal
from rlexp.tracking import folders, leftovers, sync
from tests.studies import make_job as make_study_job
from tests.tracking.test_trackers import make_job

TINY = ("algo=random", "env=frozen_lake", "trials=1", "budget.steps=20", "animation.enabled=false", "evaluation.num_episodes=1",
        "evaluation.final_episodes=1", "evaluation.candidate_episodes=1", "engine=host")  # fmt: skip
TABLE = ("algo=q_learning", *TINY[1:], "tracking=files")
EVIL = "import pathlib\npathlib.Path({!r}).touch()\n"
RUN, PARENT = "0" * 31 + "1", "0" * 31 + "2"


@pytest.fixture(scope="module")
def table_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(rlexp.run(*TABLE, f"output_dir={tmp_path_factory.mktemp('outside')}", quiet=True).folder)


@pytest.fixture
def copy(table_job: Path, tmp_path: Path) -> Path:
    """A job's folder that somebody has sent, in an output folder and a study."""
    return Path(shutil.copytree(table_job, tmp_path / "out" / "study" / table_job.name))


@pytest.fixture
def fuse(tmp_path: Path) -> Iterator[Path]:
    """A file that is there once hostile code has run."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists()


def change(folder: Path, **keys: Any) -> None:
    """Write values into a job's config.yaml, their keys with __ for dots."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for key, value in keys.items():
        node = config
        *parents, leaf = key.split("__")
        for parent in parents:
            node = node[parent]
        node[leaf] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def refused(capsys: pytest.CaptureFixture[str], *args: Any) -> str:
    assert play([*map(str, args), "--max-steps", "3"]) == 2
    said = capsys.readouterr().err
    assert said and len(said.splitlines()) <= 2 and "Traceback" not in said
    return said


# Modules.


@pytest.mark.parametrize("depth", range(4))
@pytest.mark.parametrize("key", ["env__imports", "env__id", "env__wrappers"])
def test_modules_beside_and_above_the_folder_are_not_imported(
    depth: int, key: str, copy: Path, fuse: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = [copy, *copy.parents][depth]
    (place / "evilmodule.py").write_text(EVIL.format(str(fuse)))
    value: dict[str, Any] = {
        "env__imports": ["evilmodule"],
        "env__id": "evilmodule:Evil-v0",
        "env__wrappers": ["evilmodule.Wrapper"],
    }
    change(copy, **{key: value[key]})
    monkeypatch.syspath_prepend(str(place))
    said = refused(capsys, copy)
    assert "'evilmodule'" in said and str(place / "evilmodule.py") in said and "--allow-imports" in said


def test_allowed_modules_are_imported(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_module.py").write_text(EVIL.format(str(tmp_path / "ran")))
    change(copy, env__imports=["my_own_module"])
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Refusal, match="allow_imports=True"):
        rlexp.load_policy(copy)
    assert not (tmp_path / "ran").exists()
    assert rlexp.load_policy(copy, allow_imports=True)(0) in range(4)
    assert (tmp_path / "ran").exists()
    assert play([str(copy), "--allow-imports", "--output", str(tmp_path / "x.gif"), "--max-steps", "2"]) == 0


@pytest.fixture
def hostile_place(tmp_path: Path, fuse: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first folder of sys.path, full of modules."""
    place = tmp_path / "place"
    evil = EVIL.format(str(fuse))
    for name in ("plain.py", "gymnasium.py", "package/__init__.py", "package/inner.py", "spaceless/deep/x.py", "declared.py",
                 "google/evil.py"):  # fmt: skip
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(evil)
    info = place / "declared-1.0.dist-info"  # a distribution, as it says itself
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: declared\nVersion: 1.0\n")
    (info / "RECORD").write_text("declared.py,,\n")
    (info / "entry_points.txt").write_text("[rlexp.algos]\ndeclared_algo = declared:ALGO\n")
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    return place


@pytest.mark.parametrize("name", [
    "plain", "gymnasium", "gymnasium.envs", "package", "package.inner", "spaceless", "spaceless.deep.x", "declared", "google.evil",
    "os", "antigravity", "subprocess", "builtins", "__main__", "tests.system.test_outside", "nowhere", "", ".", "..", "a b", "../plain",
    "plain/", "a" * 5000, "numpy.nowhere", "rlexp.nowhere", "\x00", "١",
])  # fmt: skip
def test_what_is_not_installed(name: str, hostile_place: Path) -> None:
    assert not stored_modules.installed(name)
    with pytest.raises(Refusal, match="modules of installed distributions only"):
        stored_modules.check([f"{name}:attribute"], "here")


@pytest.mark.parametrize(
    "name", ["numpy", "numpy.linalg", "yaml", "google.protobuf", "rlexp.envs.chapter", "mpl_toolkits.mplot3d"]
)
def test_what_is_installed(name: str, hostile_place: Path) -> None:
    before = set(sys.modules)
    assert stored_modules.installed(name)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "name", ["RecordVideo", "gymnasium.wrappers.RecordVideo", "gymnasium.wrappers.rendering:RecordVideo"]
)
def test_a_stored_wrapper_writes_no_files(name: str, copy: Path, tmp_path: Path) -> None:
    change(copy, env__wrappers=[{"name": name, "video_folder": str(tmp_path / "victim")}])
    with pytest.raises(Refusal, match=r"env\.wrappers: expected wrappers that write no files"):
        rlexp.load_policy(copy)
    assert stored_modules.named_modules({"env": {"wrappers": ["FlattenObservation", {"name": "a.b.C"}, "d:E"]}}) == [
        "a.b",
        "d",
    ]


def test_an_algorithm_of_a_distribution_that_is_not_installed(hostile_place: Path, copy: Path) -> None:
    change(copy, algo={"name": "declared_algo"})
    with pytest.raises(Refusal, match=r"'declared', which would come from .*declared\.py"):
        rlexp.load_policy(copy)


@pytest.mark.parametrize("tool", ["hatch", "setuptools", "setuptools with a finder"])
def test_a_distribution_installed_in_place_counts_and_what_lies_beside_it_does_not(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, project = tmp_path / "site", tmp_path / "project"
    info = site / "my_envs-1.0.dist-info"
    info.mkdir(parents=True)
    for name in ("my_envs/__init__.py", "my_envs/inner.py", "evil.py", "outputs/study/job/evil.py"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("raise AssertionError")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-envs\nVersion: 1.0\n")
    (info / "direct_url.json").write_text(json.dumps({"dir_info": {"editable": True}, "url": project.as_uri()}))
    pth = "__editable__.my_envs-1.0.pth" if tool != "hatch" else "_my_envs.pth"
    (info / "RECORD").write_text(f"{pth},,\n__editable___my_envs_finder.py,,\n")
    (site / pth).write_text("import x; x.install()\n" if "finder" in tool else f"{project}\n")
    if tool != "hatch":
        (info / "top_level.txt").write_text("my_envs\n")
    if "finder" in tool:
        (site / "__editable___my_envs_finder.py").write_text("")  # files that are missing may not be listed
        finder = SimpleNamespace(MAPPING={"my_envs": str(project / "my_envs")})
        monkeypatch.setitem(sys.modules, "__editable___my_envs_finder", finder)
    for cached in (stored_modules._distributions, stored_modules._listed, stored_modules._editable):
        cached.cache_clear()
    monkeypatch.setattr(stored_modules, "site_folders", lambda: (site.resolve(),))
    monkeypatch.syspath_prepend(str(project))
    try:
        assert stored_modules.installed("my_envs") and stored_modules.installed("my_envs.inner")
        assert not stored_modules.installed("evil") and not stored_modules.installed("outputs.study.job.evil")
        assert stored_modules.origin("outputs.study.job.evil") == str(project / "outputs" / "study" / "job" / "evil.py")
    finally:
        monkeypatch.undo()
        for cached in (stored_modules._distributions, stored_modules._listed, stored_modules._editable):
            cached.cache_clear()


def test_commands_that_read_do_not_import_from_the_working_directory(tmp_path: Path, fuse: Path, copy: Path) -> None:
    for name in ("numpy", "omegaconf", "yaml", "keras", "typing", "evilmodule", "argparse"):
        (copy / f"{name}.py").write_text(EVIL.format(str(fuse)))
    change(copy, env__imports=["evilmodule"])
    root = str(Path(rlexp.__file__).parents[1])
    done = subprocess.run([sys.executable, "-m", "rlexp.play", "."], cwd=copy, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": root})  # fmt: skip
    assert done.returncode == 2 and str(copy / "evilmodule.py") in done.stderr, done.stderr
    assert not fuse.exists()


def keras_file(
    config: Any, weights: bytes = b"", compression: int = zipfile.ZIP_STORED, more: dict[str, bytes] | None = None
) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1", "date_saved": "2026-01-01"}))
        archive.writestr("config.json", config if isinstance(config, bytes) else json.dumps(config))
        archive.writestr("model.weights.h5", weights)
        for name, content in (more or {}).items():
            archive.writestr(name, content)
    return file.getvalue()


def dense(*units: int, **layer: Any) -> dict[str, Any]:
    """The configuration of a Sequential model for CartPole."""
    layers: list[dict[str, Any]] = [
        {
            "module": "keras.layers",
            "class_name": "InputLayer",
            "config": {"batch_shape": [None, 4], "name": "i"},
            "registered_name": None,
        }
    ]
    layers += [
        {"module": "keras.layers", "class_name": "Dense", "config": {"units": u}, "registered_name": None, **layer}
        for u in units
    ]
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "s", "layers": layers},
        "registered_name": None,
    }


def hdf5(fill: Any) -> bytes:
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        fill(h5)
    return file.getvalue()


def external_storage(file: Any) -> None:
    file.create_dataset("w", (3,), "f4", external=[("/etc/hostname", 0, 12)])


def looping(file: Any) -> None:
    group = file.create_group("a")
    group["again"] = group


def external_link(file: Any) -> None:
    import h5py

    file["w"] = h5py.ExternalLink("/etc/hostname", "/")


def virtual(file: Any) -> None:
    import h5py

    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "w", (3,))
    file.create_virtual_dataset("w", layout)


def soft_link(file: Any) -> None:
    import h5py

    file["w"] = h5py.SoftLink("/elsewhere")


KERAS = {
    "a module beside it": (lambda: keras_file(dense(2, module="evilmodule", registered_name="evilmodule>Dense"), hdf5(lambda f: None)), "'evilmodule'"),
    "a module of Python": (lambda: keras_file(dense(2, module="antigravity"), hdf5(lambda f: None)), "'antigravity'"),
    "compressed members": (lambda: keras_file(dense(2), bytes(2**22), zipfile.ZIP_DEFLATED), "compressed"),
    "a compressed dataset": (lambda: keras_file(dense(2), hdf5(lambda f: f.create_dataset("w", (2**28,), "f4", chunks=True, compression="gzip"))), "larger than their file"),
    "a dataset that is declared only": (lambda: keras_file(dense(2), hdf5(lambda f: f.create_dataset("w", (2**40,), "f4", chunks=(1024,)))), "larger than their file"),
    "a link to another file": (lambda: keras_file(dense(2), hdf5(external_link)), "are a link"),
    "a soft link": (lambda: keras_file(dense(2), hdf5(soft_link)), "are a link"),
    "storage in another file": (lambda: keras_file(dense(2), hdf5(external_storage)), "stored in another file"),
    "a virtual dataset": (lambda: keras_file(dense(2), hdf5(virtual)), "stored in another file"),
    "groups in a circle": (lambda: keras_file(dense(2), hdf5(looping)), "larger than their file"),
    "texts as weights": (lambda: keras_file(dense(2), hdf5(lambda f: f.create_dataset("w", data=["a"]))), "are not numbers"),
    "layers that no weights are there for": (lambda: keras_file(dense(2**20, 2**20, 2), hdf5(lambda f: None)), "a model of 1,0"),
    "a member that climbs": (lambda: keras_file(dense(2), more={"../x.py": b""}), "'../x.py'"),
    "a member that is absolute": (lambda: keras_file(dense(2), more={"/tmp/x.py": b""}), "'/tmp/x.py'"),
    "assets that climb": (lambda: keras_file(dense(2), more={"assets/../../x.py": b""}), "assets/"),
    "two of one name": (lambda: keras_file(dense(2), more={"config.json": b"{}"}), "two files of one name"),
    "deep JSON": (lambda: keras_file(b"[" * 100_000), "nested too deeply"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", KERAS)
def test_keras_files(
    name: str, tmp_path: Path, fuse: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from omegaconf import OmegaConf

    from rlexp.jobs.runner import compose

    folder = tmp_path / "out" / "study" / "job"
    (folder / "trials" / "0").mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(compose("algo=dqn", "trials=1").to_dict())))
    (tmp_path / "evilmodule.py").write_text(EVIL.format(str(fuse)))
    monkeypatch.syspath_prepend(str(tmp_path))
    make, expected = KERAS[name]
    (folder / "trials" / "0" / "best.keras").write_bytes(make())
    assert expected in refused(capsys, folder)


def npz(compressed: bool = False, **arrays: Any) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def overlapping() -> bytes:
    """An archive whose members share their bytes."""
    raw = npz(q=np.zeros((16, 4)))
    start = raw.rindex(b"PK\x01\x02")
    end = raw.rindex(b"PK\x05\x06")
    entry = raw[start:end]
    entries = b"".join(entry.replace(b"q.npy", b"%05d" % i) for i in range(200))
    tail = raw[end : end + 8] + (200).to_bytes(2, "little") * 2 + len(entries).to_bytes(4, "little") + raw[end + 16 :]
    return raw[:start] + entries + tail


TABLES = {
    "compressed": (lambda: npz(True, q=np.zeros((4096, 4096))), "compressed"),
    "larger than the environment's": (lambda: npz(q=np.zeros((4096, 64))), "this job's has at most 512"),
    "a second, large array": (lambda: npz(q=np.zeros((16, 4)), other=np.zeros(4096)), "this job's has at most 512"),
    "overlapping members": (overlapping, "unpack to"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, expected = TABLES[name]
    (copy / "trials" / "0" / "best.npz").write_bytes(make())
    assert expected in refused(capsys, copy)


def test_good_archives_are_opened(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6).reshape(2, 3),
        "b": np.array("text"),
        "c": np.zeros((0, 5)),
        "d": np.array(3.0),
        "e": np.ones(3, bool),
    }
    (tmp_path / "x.npz").write_bytes(npz(**arrays))
    with archives.open_npz(tmp_path / "x.npz") as file:
        assert all((file[name] == array).all() for name, array in arrays.items())


# Configurations.

YAML = {
    "an interpolation": "a: ${oc.env:HOME}",
    "one in a list": "a: [{b: '${oc.env:HOME}'}]",
    "one as a key": "{'${oc.env:HOME}': 1}",
    "one by halves": "a: 'x${b}'\nb: 1",
    "a thousand million laughs": "a: &a [x, x]\n" + "\n".join(f"{b}: &{b} [*{a}, *{a}, *{a}]" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)),
    "an anchor": "a: &a 1",
    "a tag": "a: !!python/object/apply:os.system ['true']",
    "a tag of YAML": "a: !!binary aGk=",
    "a merge of an alias": "a: &a {x: 1}\nb: {<<: *a}",
    "deep": "[" * 100_000,
    "deep, block": "\n".join(" " * i + "a:" for i in range(200)),
    "large": "a: " + "x" * (stored_yaml.MAX_SIZE + 1),
    "two documents": "a: 1\n---\nb: 2",
    "a number of a million digits": "a: " + "1" * 10_000,
    "bytes": "\x00\x01",
    "a list": "[1]",
    "a key that is a list": "? [1]\n: 2",
}  # fmt: skip


@pytest.mark.parametrize("name", YAML)
def test_stored_yaml_is_plain(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(YAML[name])
    with pytest.raises(ValueError, match=r"config\.yaml is not a configuration: ") as error:
        stored_yaml.read_config(tmp_path)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 500


def test_a_config_that_is_a_link_to_a_device_or_missing(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="not a regular file"):
        stored_yaml.read_config(tmp_path)
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(ValueError, match="there is no such file"):
        stored_yaml.read_config(tmp_path)


def test_what_rlexp_writes_is_plain(copy: Path) -> None:
    assert stored_yaml.read_config(copy) == yaml.safe_load((copy / "config.yaml").read_text())


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine, and what it is asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(500)

        do_POST = do_PUT = do_PATCH = do_GET

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("suffix", ["", "/${oc.env:SECRET_OF_THE_READER}"])
def test_sync_sends_to_no_server_of_the_folder_s_choice(
    suffix: str, listener: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address, asked = listener
    monkeypatch.setenv("SECRET_OF_THE_READER", "s3cret")
    folder = make_job(tmp_path, uri=address + suffix, num_records=1)
    assert sync_command.main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert asked == []
    if not suffix:
        assert lines == [
            f"{folder}: not sent: its folder asks for {address}, which this command does not name",
            f"If you trust that place: rlexp sync {tmp_path} --tracking-uri {address}",
        ]
    assert "s3cret" not in "".join(lines)
    assert leftovers.leftovers(tmp_path, address) == []  # its config does not say that it is MLflow's


def test_a_server_that_is_named_is_asked(listener: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, asked = listener
    folder = make_job(tmp_path, uri=address, num_records=1)
    assert folders.job_uri(folder, address) == address
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert folders.job_uri(folder, None) == address
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(folders.NotNamed):
        folders.job_uri(folder, None)
    assert asked == []


@pytest.mark.parametrize(("asked", "sent"), [
    ("sqlite:///{out}/mlflow.db", True), ("sqlite:///{out}/study one/x.db", True), ("file:{out}/mlruns", True), ("file://{out}/mlruns", True),
    ("sqlite:////tmp/elsewhere.db", False), ("sqlite:///{out}/../x.db", False), ("sqlite:///{out}/link/x.db", False), ("sqlite:///x.db", False),
    ("sqlite:///{out}/x.db?mode=memory", False), ("sqlite+x:///{out}/x.db", False), ("file:///etc", False), ("file://host/{out}/x", False),
    ("postgresql://h/db", False), ("https://h", False), ("ftp://h", False), ("databricks", False), ("{out}/mlruns", False), ("sqlite://", False),
    ("uc:x", False), ("HTTP://h", False),
])  # fmt: skip
def test_only_stores_inside_the_output_folder_need_no_name(
    asked: str, sent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output_dir = tmp_path / "out"
    folder = make_job(output_dir, uri=asked.format(out=output_dir), num_records=1)
    (output_dir / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    if sent:
        assert folders.job_uri(folder, None) == asked.format(out=output_dir)
        return
    with pytest.raises(folders.NotNamed):
        folders.job_uri(folder, None)
    assert sync.sync(folder)[1].startswith("not sent: its folder asks for ")


def test_a_default_store_that_is_a_link_to_elsewhere_is_not_used(tmp_path: Path) -> None:
    folder = make_job(tmp_path / "out", num_records=1)
    (tmp_path / "out" / "mlflow.db").symlink_to(tmp_path / "victim.db")
    assert sync.sync(folder)[1].startswith("not sent: ")
    assert not (tmp_path / "victim.db").exists()


def test_an_output_folder_that_is_a_link_is_its_user_s(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "scratch")
    folder = make_job(tmp_path / "out", num_records=1)
    assert folders.job_uri(folder, None) == f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}"
    assert folders.job_uri(make_job(tmp_path / "out", "b", uri=f"sqlite:///{tmp_path}/out/mlflow.db"), None)


def test_what_a_start_delivers_of_other_folders_goes_to_its_own_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = f"sqlite:///{tmp_path}/mlflow.db"
    wanted = {"tracking": {"name": "mlflow", "uri": None}}
    left = make_job(tmp_path, "left", config=wanted)
    make_job(tmp_path, "elsewhere", config={"tracking": {"name": "mlflow", "uri": "http://127.0.0.1:9"}})
    make_job(tmp_path, "sly", config={"tracking": {"name": "mlflow", "uri": "${oc.env:HOME}"}})
    linked = make_job(tmp_path, "linked", config=wanted)
    (linked / "animation.gif").symlink_to("/etc/passwd")
    following, sent = make_job(tmp_path, "following", config=wanted), []
    monkeypatch.setattr(leftovers, "sync", lambda folder, uri=None: (sent.append((folder, uri)), (True, ""))[1])
    monkeypatch.setattr(leftovers, "close_silent", lambda *args: [])
    assert list(leftovers.tidy(following, ours)) == [None] * 2
    assert sorted(sent) == [(following, ours), (left, ours)]


def test_a_store_does_not_choose_where_files_go(tmp_path: Path) -> None:
    """Neither its experiments nor its runs."""
    from rlexp.tracking.mlflow.experiment import check_artifact_location

    output_dir = tmp_path / "out"
    store = f"sqlite:///{output_dir}/mlflow.db"
    inside = (output_dir / "mlartifacts").as_uri()
    for location in ("http://evil/x", "s3://evil/x", "mlflow-artifacts:/x", "file://evil/x", "ftp://evil"):
        for limit in (None, output_dir):
            with pytest.raises(RuntimeError, match="would put files into"):
                check_artifact_location(location, store, output_dir, limit)
    for location in ((tmp_path / "elsewhere").as_uri(), f"file://{output_dir}/../x", "/etc", "file:///etc"):
        with pytest.raises(RuntimeError, match="--tracking-uri"):
            check_artifact_location(location, store, output_dir, output_dir)
    for location, uri, limit in ((inside, store, output_dir), (inside, store, None), ("file:///moved", store, None),
                                 ("s3://bucket/x", "http://server", None), ("mlflow-artifacts:/x", "http://server", None)):  # fmt: skip
        check_artifact_location(location, uri, output_dir, limit)


@pytest.mark.slow
@pytest.mark.parametrize("of", ["the experiment", "a run"])
def test_a_store_that_came_with_the_folder_gets_nothing_written_elsewhere(of: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    output_dir, victim = tmp_path / "out", tmp_path / "victim"
    folder = make_job(output_dir, num_records=1)
    client = MlflowClient(tracking_uri=f"sqlite:///{output_dir}/mlflow.db")
    evil, good = victim.as_uri(), (output_dir / "mlartifacts").as_uri()
    experiment = client.create_experiment("study one", artifact_location=evil if of == "the experiment" else good)
    if of == "a run":
        assert sync.sync(folder) == (True, "delivered 1 records, 5 files")
        import sqlite3

        with sqlite3.connect(output_dir / "mlflow.db") as database:
            database.execute("UPDATE runs SET artifact_uri = ?", (evil,))
        (folder / "evaluation.csv").write_text("changed")
    delivered, line = sync.sync(folder)
    assert not delivered and "would put files into" in line and not victim.exists(), (experiment, line)


# Symbolic links.

LINKS = ("metrics.jsonl", "owner.json", "tracking.json", "tracking.log", ".lock", ".tracking.lock", "config.yaml", "job.json",
         "summary.json", "checkpoint", "trials", "trials/0", "checkpoint/000000000001.npz", ".metrics.jsonl.part",
         ".config.yaml.part", "error.txt", "learning_curve.png", "evaluation.csv", "deep/er/x")  # fmt: skip


@pytest.mark.parametrize("name", LINKS)
def test_a_job_writes_through_no_link(name: str, tmp_path: Path) -> None:
    from rlexp.jobs.preflight import resolve
    from rlexp.jobs.runner import compose

    victim = tmp_path / "victim"
    (victim / "inside").mkdir(parents=True)
    (victim / "file").write_text("precious")
    overrides = (*TINY, "tracking=files", f"output_dir={tmp_path / 'out'}")
    path = resolve(compose(*overrides))[0].folder / name
    path.parent.mkdir(parents=True)
    path.symlink_to(victim if name in ("checkpoint", "trials", "trials/0") else victim / "file")
    for rerun in ("false", "true"):
        with pytest.raises(Refusal, match=r"a symbolic link to .*\nRemove it: rm"):
            rlexp.run(*overrides, f"rerun={rerun}", quiet=True)
    assert (victim / "file").read_text() == "precious" and sorted(p.name for p in victim.iterdir()) == [
        "file",
        "inside",
    ]
    assert sync.sync(path.parent)[0] is False
    assert not list((victim / "inside").iterdir())


def test_a_job_folder_that_is_a_link_or_holds_a_pipe(tmp_path: Path, copy: Path) -> None:
    (tmp_path / "link").symlink_to(copy)
    with pytest.raises(links.LinkFound, match="a symbolic link to"):
        links.check_folder(tmp_path / "link")
    links.check_folder(copy)
    os.mkfifo(copy / "metrics.pipe")
    with pytest.raises(links.LinkFound, match="neither a file nor a folder"):
        links.check_folder(copy)


def test_output_and_study_folders_may_be_links(tmp_path: Path) -> None:
    for name in ("scratch", "studies/mine"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "scratch")
    (tmp_path / "scratch" / "default").symlink_to(tmp_path / "studies" / "mine")
    found = rlexp.run(*TINY, "tracking=files", f"output_dir={tmp_path / 'out'}", quiet=True)
    assert found["status"] == "done" and list((tmp_path / "studies" / "mine").glob("random-*/summary.json"))
    assert report(["default", "--output-dir", str(tmp_path / "out")]) == 0
    assert (tmp_path / "studies" / "mine" / "report" / "index.html").is_file()


@pytest.mark.parametrize("mode", ["w", "wb", "w+b", "a", "ab", "r+b"])
def test_opening_follows_no_link(mode: str, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "x").symlink_to(tmp_path / "victim")
    (tmp_path / "job" / "folder").symlink_to(tmp_path)
    if mode[0] == "w":
        links.open_to_write(tmp_path / "job" / "x", mode).close()
        assert not (tmp_path / "job" / "x").is_symlink()
    else:
        with pytest.raises(links.LinkFound):
            links.open_to_write(tmp_path / "job" / "x", mode)
    with pytest.raises(links.LinkFound):
        links.open_to_write(tmp_path / "job" / "folder" / "victim", mode, inside=tmp_path / "job")
    assert (tmp_path / "victim").read_text() == "precious"
    os.mkfifo(tmp_path / "job" / "pipe")
    if mode[0] != "w":
        with pytest.raises(OSError):
            links.open_to_write(tmp_path / "job" / "pipe", mode)


def test_a_sweep_writes_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "out" / "s").mkdir(parents=True)
    (tmp_path / "out" / "s" / "sweeps").symlink_to(tmp_path / "victim")
    with (
        pytest.raises(Refusal, match="a symbolic link to"),
        folder_lock.folder_lock(tmp_path / "out" / "s" / "sweeps" / "0123abcd"),
    ):
        raise AssertionError
    assert not list((tmp_path / "victim").iterdir())


@pytest.mark.parametrize("name", ["report", "report/figures", "report/index.html", "report/tables/results.csv"])
def test_a_report_writes_through_no_link(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, victim = tmp_path / "out" / "s", tmp_path / "victim"
    make_study_job(study, "dqn", [1.0, 2.0])
    victim.mkdir()
    (victim / "file").write_text("precious")
    (study / name).parent.mkdir(parents=True, exist_ok=True)
    (study / name).symlink_to(victim / "file" if "." in name else victim)
    assert report(["s", "--output-dir", str(tmp_path / "out")]) == 2
    assert "a symbolic link to" in capsys.readouterr().err
    assert [p.name for p in victim.iterdir()] == ["file"] and (victim / "file").read_text() == "precious"
    mine = tmp_path / "mine"
    mine.symlink_to(victim)
    if name == "report":  # a folder that the user names may be reached by a link
        assert report(["s", "--output-dir", str(tmp_path / "out"), "--to", str(mine)]) == 0
        assert (victim / "index.html").is_file()


def test_links_are_not_sent(tmp_path: Path) -> None:
    folder = make_job(tmp_path, num_records=1)
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    assert links.owned(folder / "evaluation.csv", folder)
    (folder / "evaluation.csv").unlink()
    (folder / "evaluation.csv").symlink_to(secret)
    (folder / "trials").symlink_to(tmp_path)
    for name in ("evaluation.csv", "trials/secret", "../secret"):
        assert not links.owned(folder / name, folder)
    delivered, line = sync.sync(folder)
    assert not delivered and "a symbolic link to" in line
    assert not (tmp_path / "mlflow.db").exists()


# What is printed.

NAME = "dqn\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202e"


def controls(said: str) -> set[str]:
    return {c for c in said if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c in "\u202e\u2066"}


@pytest.fixture
def rude(tmp_path: Path) -> Path:
    """An output folder whose texts hold control characters, and one with a newline."""
    study = tmp_path / "out" / "s"
    for algo in ("dqn", "ddqn"):
        folder = make_study_job(study, algo, [1.0, 2.0])
        described = json.loads((folder / "job.json").read_text())
        described |= {
            "name": f"{NAME}\nspoofed",
            "algo": NAME,
            "env": NAME,
            "command": NAME,
            "overrides": [f"algo={NAME}"],
        }
        described["tags"]["device"] = NAME
        (folder / "job.json").write_text(json.dumps(described))
        summary = json.loads((folder / "summary.json").read_text())
        summary["trials"][0]["note"] = NAME
        (folder / "summary.json").write_text(json.dumps(summary))
    return tmp_path / "out"


@pytest.mark.slow
def test_control_characters_are_not_printed(rude: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ls.main(["s", "--output-dir", str(rude)])
    assert len(capsys.readouterr().out.splitlines()) == 3
    ls.main(["s", "--output-dir", str(rude)])
    best.main(["s", "--output-dir", str(rude)])
    best.main([NAME, "--output-dir", str(rude)])
    report(["s", "--output-dir", str(rude)])
    sync_command.main([str(rude), "--tracking-uri", f"sqlite:///{rude}/{NAME}"])
    play([str(rude / "s" / NAME)])
    (rude / "s" / "other").mkdir()
    (rude / "s" / "other" / "config.yaml").write_text(f"a: [{NAME!r}")
    play([str(rude / "s" / "other")])
    said = capsys.readouterr()
    assert "dqn\\x1b" in said.out and "dqn\\x1b" in said.err
    assert controls(said.out) == controls(said.err) == set()
    for path in (rude / "s" / "report").rglob("*"):
        if path.suffix in (".md", ".html", ".csv"):
            assert controls(path.read_text()) == set(), path


def test_a_job_s_notes_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    from rlexp.jobs.console import JobConsole

    console = JobConsole(1)
    trial = {
        "seed": 0,
        "status": "done",
        "note": f"{NAME}[red]",
        "best_eval_return": 1.0,
        "best_step": 1,
        "final_return": 1.0,
    }
    final = {"ci95": [None, None], "per_trial": [1.0], "iqm": 1.0, "mean": 1.0, "std": 0.0, "min": 1.0, "max": 1.0}
    console.table({"algo": NAME, "env": "[bold]x", "status": "done", "trials": [trial], "final/return": final, "wall_seconds": 1.0,
                   "steps_per_second": 1.0})  # fmt: skip
    console.say(NAME)
    console.warn(NAME)
    said = capsys.readouterr()
    assert controls(said.out) == controls(said.err) == set() and "[bold]x" in said.out


# Git.


@pytest.mark.parametrize(
    "setting",
    [
        "core.fsmonitor",
        "filter.evil.clean",
        "filter.evil.process",
        "filter.a=b.clean",
        "core.hooksPath",
        "diff.external",
        "core.pager",
        "core.sshCommand",
    ],
)
def test_git_runs_nothing_that_a_repository_names(
    setting: str, tmp_path: Path, fuse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, script = tmp_path / "repository", tmp_path / "script"
    git = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    (repository / "a").write_text("1")
    driver = "a=b" if "a=b" in setting else "evil"
    (repository / ".gitattributes").write_text(f"* filter={driver} diff=evil\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    script.write_text(f"#!/bin/sh\ntouch {fuse}\ncat\n")
    script.chmod(0o755)
    for hook in ("post-index-change", "fsmonitor-watchman"):
        shutil.copy(script, repository / ".git" / "hooks" / hook)
        shutil.copy(script, tmp_path / hook)
    subprocess.run([*git, "config", setting, str(tmp_path if "hooks" in setting else script)], check=True)
    (repository / "a").write_text("2")  # so that status looks into it
    os.utime(repository / "a", (1, 1))
    if setting.startswith(("filter", "core.fsmonitor")):  # the attack works
        subprocess.run([*git, "--no-optional-locks", "status"], capture_output=True)
        fuse.unlink()
    monkeypatch.chdir(repository)
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(script))
    found = origin.git_tags()
    if "a=b" in setting:
        assert found == {}
    else:
        assert len(found["git.commit"]) == 40 and found["git.dirty"] == "true"


def test_a_folder_that_looks_like_a_repository_is_none(copy: Path, fuse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare one, as any archive can hold it."""
    subprocess.run(["git", "init", "-q", "--bare", str(copy)], check=True)
    with (copy / "config").open("a") as file:
        file.write(f'[core]\n\tfsmonitor = "touch {fuse}"\n\tworktree = {copy}\n\tbare = false\n')
    monkeypatch.chdir(copy)
    assert origin.git_tags() == {}


# Secrets.


@pytest.mark.parametrize(("said", "shown"), [
    ("http://user:pw@host:5000/x", "http://***:***@host:5000/x"),
    ("https://tok3n@host", "https://***@host"),
    (r"tracking.uri=postgresql\://me\:pw@h\:9/db", r"tracking.uri=postgresql\://me:***@h\:9/db"),
    (r"env.kwargs.token=a\ b\,c x=1", "env.kwargs.token=*** x=1"),
    ("postgresql://u:p/w#@h/db", "postgresql://u:***@h/db"),
    ("postgresql+psycopg2://u:pw@h/db?sslmode=require", "postgresql+psycopg2://u:***@h/db?sslmode=require"),
    ("mysql://u@h/db", "mysql://u@h/db"),
    ("http://h/?token=abc&x=1", "http://h/?token=***&x=1"),
    ("rlexp env.kwargs.api_key=abc seed=1", "rlexp env.kwargs.api_key=*** seed=1"),
    ("+env.kwargs.token='a b' x=1", "+env.kwargs.token='***' x=1"),
    ("env.kwargs={password: abc, x: 1}", "env.kwargs={password: ***, x: 1}"),
    ("--password hunter2 --x 1", "--password *** --x 1"),
    ('{"api-key": "abc"}', '{"api-key": "***"}'),
    ("Authorization: Bearer abc.def", "Authorization: ***"),
    ("MLFLOW_TRACKING_PASSWORD=q x", "MLFLOW_TRACKING_PASSWORD=*** x"),
    ("ghp_0123456789abcdefghij", "***"),
    ("num_tokens=5 tokens=3 key=4 algo.name=dqn passwordless=1 secretary=2", "num_tokens=5 tokens=3 key=4 algo.name=dqn passwordless=1 secretary=2"),
    ("sqlite:////a/b@c/x.db a@b.c", "sqlite:////a/b@c/x.db a@b.c"),
    ("http://host:5000/#/experiments/1?o=a@b", "http://host:5000/#/experiments/1?o=a@b"),
])  # fmt: skip
def test_what_looks_like_a_secret_is_masked(said: str, shown: str) -> None:
    assert text.mask(said) == shown
    assert text.mask(shown) == shown
    assert text.same_address(shown, said)


def test_values_under_secret_keys_are_masked() -> None:
    tree = {"api_key": 5, "a": [{"token": ["x"], "n": 3, "password": None}], "uri": "http://u:p@h"}
    assert text.mask_tree(tree) == {
        "api_key": "***",
        "a": [{"token": "***", "n": 3, "password": None}],
        "uri": "http://***:***@h",
    }


@pytest.mark.parametrize(
    "uri",
    [
        "http://user:s3cret@host",
        "https://s3cret@host/x",
        "http:user:s3cret@host",
        "HTTP://user:s3cret@host",
        "http://user%3As3cret%40host",
    ],
)
def test_an_address_with_a_password_is_refused(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rlexp.cli import ui

    def shown() -> str:
        said = "".join(capsys.readouterr())
        assert "MLFLOW_TRACKING_USERNAME" in said and "_PASSWORD" in said and "_TOKEN" in said
        return said

    makes = make_job(tmp_path, num_records=1)
    with pytest.raises(Refusal, match=r"tracking\.uri: expected an address without .*\n.*MLFLOW_TRACKING_TOKEN"):
        rlexp.run(*TINY, f"tracking.uri={uri.replace('%', '%')}", f"output_dir={tmp_path / 'out'}", quiet=True)
    said = ""
    for main, args in (
        (sync_command.main, [str(makes)]),
        (play, ["0" * 32]),
        (report, ["s"]),
        (ui.main, ["--no-browser"]),
    ):
        assert main([*args, "--tracking-uri", uri]) == 2
        said += shown()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(Refusal, match="MLFLOW_TRACKING_URI: expected an address without"):
        rlexp.run(*TINY, f"output_dir={tmp_path / 'out'}", quiet=True)
    assert sync_command.main([str(makes)]) == 2 and ui.main(["--no-browser"]) == 2
    said += shown()
    assert not (tmp_path / "out").exists()
    assert "s3cret" not in said or "%" in uri


def test_no_secret_is_in_any_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passwords of databases, which MLflow needs, and keys of environments."""
    import gymnasium as gym
    from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

    keys: list[str] = []

    def make(api_key: str, **options: Any) -> gym.Env:
        keys.append(api_key)
        return FrozenLakeEnv(**options)

    if "Secretive-v0" not in gym.registry:
        gym.register("Secretive-v0", entry_point=make)
    uri = "postgresql://me:s3cret@127.0.0.1:9/db"
    overrides = (
        *TINY,
        "env.id=Secretive-v0",
        "+env.kwargs.api_key=s3cret",
        "tracking=files",
        f"tracking.uri={uri}",
        f"output_dir={tmp_path / 'out'}",
    )
    monkeypatch.setattr(sys, "argv", ["x/rlexp/__main__.py", *overrides])
    found = rlexp.run(*overrides)
    assert set(keys) == {"s3cret"}
    again = rlexp.run(*overrides)
    assert again["config_id"] == found["config_id"] == found.folder.name[-8:]
    assert stored_yaml.read_config(found.folder)["tracking"]["uri"] == "postgresql://me:***@127.0.0.1:9/db"
    assert "already done" in capfd.readouterr().out
    assert "api_key=***" in json.loads((found.folder / "job.json").read_text())["command"]
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes(), path
    assert sync.sync(found.folder)[1].startswith("not sent: its folder asks for postgresql://me:***@127.0.0.1:9/db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert folders.job_uri(found.folder, None) == uri


def test_the_tracking_process_is_told_the_address_where_nobody_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlexp.tracking import follower

    started: list[Any] = []

    def popen(command: Any, **options: Any) -> Any:
        started.append((command, options))
        raise OSError("not today: s3cret in postgresql://me:s3cret@h/db")

    monkeypatch.setattr(subprocess, "Popen", popen)
    uri = "postgresql://me:s3cret@h/db"
    folder = make_job(tmp_path, uri=text.mask(uri), num_records=1)
    tracker = follower.MLflowTracker(uri, [folder], tmp_path)
    tracker.start()
    ((command, options),) = started
    assert "s3cret" not in " ".join(command) and options["env"]["MLFLOW_TRACKING_URI"] == uri
    result = tracker.close(0.0)[folder]
    assert "postgresql://me:***@h/db" in result.message and "--tracking-uri" in result.message
    assert "me:s3cret" not in result.message + str(result.ui_command) + (folder / "tracking.log").read_text()


# MLflow servers.


class Server:
    """A server that says what a test wants, in place of MLflow's client and its artifacts."""

    def __init__(self, job: Path) -> None:
        self.files = {
            (PARENT, name): (job / name).read_bytes() for name in ("config.yaml", "summary.json", "metrics.jsonl")
        }
        self.files[RUN, "weights/best.npz"] = (job / "trials" / "0" / "best.npz").read_bytes()
        tags = {"rlexp.algo": "q_learning", "rlexp.env": "frozen_lake", "rlexp.config_id": "1" * 8, "rlexp.group": "2" * 8,
                "rlexp.command": "x"}  # fmt: skip
        self.runs = {
            PARENT: self.run(PARENT, job.name, {**tags, "rlexp.kind": "job"}),
            RUN: self.run(
                RUN, "trial 0", {**tags, "rlexp.kind": "trial", "rlexp.seed": "0", "mlflow.parentRunId": PARENT}
            ),
        }
        self.sizes: dict[str, int] = {}
        self.listed: list[str] = []  # what it lists besides
        self.queries: list[str] = []

    @staticmethod
    def run(run_id: str, name: str, tags: dict[str, str]) -> Any:
        info = SimpleNamespace(run_id=run_id, run_name=name, experiment_id="1", artifact_uri=f"mlflow-artifacts:/1/{run_id}",
                               start_time=1000, status="FINISHED", lifecycle_stage="active")  # fmt: skip
        return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags, params={}, metrics={}))

    def get_run(self, run_id: str) -> Any:
        return self.runs[run_id]

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="1")

    def search_runs(self, experiments: Any, query: str, **options: Any) -> list[Any]:
        self.queries.append(query)
        kind = "job" if "'job'" in query else "trial"
        return [run for run in self.runs.values() if run.data.tags.get("rlexp.kind") == kind]

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[Any]:
        found = [name for run, name in self.files if run == run_id] + self.listed
        sizes = {name: len(content) for (run, name), content in self.files.items()}
        return [SimpleNamespace(path=name, is_dir=False, file_size=self.sizes.get(name, sizes.get(name))) for name in found
                if (path is None) == ("/" not in name)]  # fmt: skip

    def repository(self, uri: str, tracking_uri: str | None = None) -> Any:
        run_id = uri.rpartition("/")[2]

        def download(name: str, path: str) -> None:
            Path(path).write_bytes(self.files[run_id, name])

        return SimpleNamespace(
            list_artifacts=lambda path=None: self.list_artifacts(run_id, path), _download_file=download
        )


@pytest.fixture
def server(table_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """And a folder for temporary files, which is empty afterwards."""
    from rlexp.tracking.mlflow import fetch

    found = Server(table_job)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(fetch, "MlflowClient", lambda tracking_uri: found)
    monkeypatch.setattr(fetch, "get_artifact_repository", found.repository)
    before = set(tmp_path.rglob("*"))
    yield found
    assert list(temporary.iterdir()) == []
    assert {path for path in set(tmp_path.rglob("*")) - before if path.suffix not in (".gif", ".html")} <= {
        tmp_path / "report"
    }


URI = "http://127.0.0.1:9"


@pytest.mark.parametrize("source", [RUN, PARENT, f"runs:/{RUN}/x"])
def test_a_run_is_fetched_and_nothing_is_left(source: str, server: Server) -> None:
    assert rlexp.load_policy(source, tracking_uri=URI)(0) in range(4)


@pytest.mark.parametrize("seed", [
    "/tmp/package", "../../package", "..", ".", "zero", "-1", "+0", "1e3", "0x0", "0.0", "7", "00", " 0", "0\n", "٠", "", "C:\\x", "\x00",
    "\x1b[2J", "9" * 5000, "0/../0", None,
])  # fmt: skip
def test_a_seed_is_digits_and_one_of_the_job_s(seed: Any, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.runs[RUN].data.tags["rlexp.seed"] = seed
    if seed is None:  # then it is no trial's, and has no files of a job's
        del server.runs[RUN].data.tags["rlexp.seed"]
    said = refused(capsys, RUN, "--tracking-uri", URI)
    assert controls(said) == set()
    with pytest.raises(ValueError, match=r"rlexp\.seed"):
        names.seed(seed, range(3))


@pytest.mark.parametrize("parent", ["", "x", "' OR '1'='1", f"{PARENT}' OR 1=1 --", "../x", PARENT.upper() + "g", None])
def test_a_parent_is_a_run_s_id(parent: str | None, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.runs[RUN].data.tags["mlflow.parentRunId"] = parent
    assert "a run's id of 32 hexadecimal digits" in refused(capsys, RUN, "--tracking-uri", URI)
    assert not any("OR" in query for query in server.queries)


FILES = {
    "an interpolation": {"config.yaml": b"seed: 0\ntrials: 1\nenv: {kwargs: {a: '${oc.env:HOME}'}}"},
    "no seed": {"config.yaml": b"a: 1"},
    "seeds that are texts": {"config.yaml": b"seed: '../..'\ntrials: 1"},
    "a million million seeds": {"config.yaml": b"seed: -1\ntrials: 1000000000000"},
    "no mapping": {"config.yaml": b"[1]"},
    "a best seed that climbs": {"summary.json": b'{"trials": [{"seed": "../../x", "final_return": 1}]}'},
    "a best seed that is none of the job's": {"summary.json": b'{"trials": [{"seed": 5, "final_return": 1}]}'},
    "a summary of nothing": {"summary.json": b"[]"},
    "a summary of trials that are none": {"summary.json": b'{"trials": [1, "a"]}'},
    "deep": {"summary.json": b"[" * 100_000},
    "no JSON": {"summary.json": b"\x00"},
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_of_a_run(name: str, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.files |= {(PARENT, file): content for file, content in FILES[name].items()}
    refused(capsys, PARENT, "--tracking-uri", URI)


@pytest.mark.parametrize(
    "path",
    [
        "../x.py",
        "weights/../../x.py",
        "/tmp/x.py",
        "weights//tmp/x.py",
        "C:\\x.py",
        "weights/\x00",
        "weights/" + "x" * 5000,
        "weights/__init__.py",
    ],
)
def test_paths_that_a_server_lists_are_not_taken(path: str, server: Server) -> None:
    server.listed.append(path)
    assert rlexp.load_policy(RUN, tracking_uri=URI)(0) in range(4)


def test_sizes_are_read_first(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.sizes["weights/best.npz"] = 2**50
    assert "bytes of weights/best.npz" in refused(capsys, RUN, "--tracking-uri", URI)


@pytest.mark.parametrize("place", ["http://evil/x", "https://127.0.0.1:9@evil/x", "mlflow-artifacts://evil/x"])
def test_artifacts_on_another_server_are_not_asked_for(
    place: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.runs[PARENT].info.artifact_uri = f"{place}/{PARENT}"
    assert "expected artifacts on" in refused(capsys, RUN, "--tracking-uri", URI)


def test_a_fetched_run_s_modules_are_not_imported(
    server: Server, tmp_path: Path, fuse: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load(server.files[PARENT, "config.yaml"])
    config["env"]["imports"] = ["evilmodule"]
    server.files[PARENT, "config.yaml"] = yaml.safe_dump(config).encode()
    place = tmp_path / "temporary" / ".." / "path"
    place.mkdir()
    (place / "evilmodule.py").write_text(EVIL.format(str(fuse)))
    monkeypatch.syspath_prepend(str(place))
    assert "'evilmodule'" in refused(capsys, RUN, "--tracking-uri", URI)
    shutil.rmtree(place)


def test_names_of_runs_become_folders_of_their_own() -> None:
    taken: set[str] = set()
    given = [
        "a",
        "A",
        "a/b",
        "a_b",
        "a b",
        "..",
        ".",
        "",
        "/etc",
        "~",
        "-x",
        "x" * 5000,
        "x" * 5000 + "y",
        "a\x00",
        "\ud800",
        "CON",
        "a/../..",
        None,
        3,
        "a",
    ]
    found = [names.folder(name, taken) for name in given]
    assert found[0] == "a" and len({name.lower() for name in found}) == len(given)
    for name in found:
        assert "/" not in name and name[0].isalnum() and len(name) < 140 and name.isascii(), name


def test_a_study_is_fetched_and_what_is_wrong_is_said(server: Server, tmp_path: Path) -> None:
    from rlexp.tracking.mlflow.fetch import fetch_study

    good = server.runs[PARENT]

    def add(number: int, name: str, tags: dict[str, Any] | None = None, seeds: tuple[str, ...] = ("0",)) -> None:
        run_id = f"{number:032x}"
        kept = {k: v for k, v in {**good.data.tags, **(tags or {})}.items() if v is not None}
        server.runs[run_id] = server.run(run_id, name, kept)
        server.files |= {
            (run_id, file): server.files[PARENT, file] for file in ("config.yaml", "summary.json", "metrics.jsonl")
        }
        for k, seed in enumerate(seeds):
            trial = f"{number * 100 + k:032x}"
            server.runs[trial] = server.run(
                trial, "t", {"rlexp.kind": "trial", "rlexp.seed": seed, "mlflow.parentRunId": run_id}
            )

    for number, name in enumerate(("..", "a/b", "a_b", "/etc/x", "x" * 300), start=20):
        add(number, name)
    add(30, "no tags", {"rlexp.algo": None})
    for number, seed in enumerate(("zero", "../x", "9"), start=40):
        add(number, f"seed {seed}", seeds=(seed,))
    add(50, "twice", seeds=("0", "0"))
    place = tmp_path / "temporary" / "fetched"
    place.mkdir()
    problems = fetch_study("s", URI, place)
    folders = sorted(path.name for path in place.iterdir())
    assert len(folders) == 6 and all((place / name / "job.json").is_file() for name in folders)
    assert len(problems) == 5 and all(len(why.splitlines()) == 1 for why in problems.values())
    assert "rlexp.algo" in problems["run 'no tags'"] and "rlexp.seed" in problems["run 'seed zero'"]
    shutil.rmtree(place)


def test_a_study_of_nothing_but_foreign_runs_ends_in_a_sentence(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.runs[PARENT].data.tags = {"rlexp.kind": "job"}
    assert report(["s", "--tracking-uri", URI]) == 2
    said = capsys.readouterr().err
    assert "a run of rlexp, received one without the tag rlexp.algo" in said and "Traceback" not in said
