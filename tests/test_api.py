"""The public names: their documentation, what importing them costs, and how they refuse."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rlexp
from rlexp.system.text import clean

ROOT = Path(__file__).resolve().parents[1]


def public() -> Iterator[tuple[str, Any]]:
    """The functions and classes of `rlexp.__all__`, and the public methods and properties of the classes."""
    for name in rlexp.__all__:
        thing = getattr(rlexp, name)
        if callable(thing):
            yield name, thing
        if inspect.isclass(thing) and not issubclass(thing, BaseException | tuple):
            for inner, member in vars(thing).items():
                if not inner.startswith("_"):
                    yield f"{name}.{inner}", member


@pytest.mark.parametrize(("name", "thing"), public())
def test_everything_public_is_documented(name: str, thing: Any) -> None:
    text = inspect.getdoc(thing) or ""
    assert len(text.splitlines()[0]) > 20 and text.splitlines()[0].rstrip().endswith((".", ":")), name
    if not inspect.isfunction(thing):
        return
    parameters = [p for p in inspect.signature(thing).parameters if p != "self"]
    if "." in name and not parameters:
        return
    sections = dict.fromkeys(line.rstrip(":") for line in text.splitlines() if line in ("Args:", "Returns:", "Raises:"))
    assert "Args" in sections or not parameters, name
    if "." not in name:
        assert list(sections) == ["Args", "Returns", "Raises"], name
    for parameter in parameters:
        assert f" {parameter}:" in text.replace("*", ""), f"{name}: {parameter}"


def test_all_is_sorted_and_complete() -> None:
    assert rlexp.__all__ == sorted(rlexp.__all__) and set(rlexp.__all__) <= set(dir(rlexp))
    assert (ROOT / "rlexp" / "py.typed").read_text() == ""


def test_folders_are_attributes_and_importing_is_cheap() -> None:
    """Also for who uses nothing but `import rlexp`."""
    code = """
        import sys
        import rlexp
        heavy = {"tensorflow", "mlflow", "pandas", "keras", "matplotlib"}
        assert not heavy & {*sys.modules}, heavy & {*sys.modules}
        assert rlexp.report.study.write.__doc__ and rlexp.jobs.results.load_job and rlexp.math.statistics.iqm
        assert {"report", "jobs", "book", "run", "Study", "load_job"} <= {*dir(rlexp)}
        assert "study" in dir(rlexp.report)
        assert rlexp.Refusal is rlexp.system.errors.Refusal and issubclass(rlexp.Job, dict)
        assert not {"tensorflow", "mlflow", "pandas"} & {*sys.modules}
        try:
            rlexp.no_such
        except AttributeError as error:
            assert str(error) == "module 'rlexp' has no attribute 'no_such'"
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    "call",
    [lambda: rlexp.run(algo="ddqm"), lambda: rlexp.run("trials=0"), lambda: rlexp.sweep(algo=["dqm", "ddqm"]),
     lambda: rlexp.load_job("no/such"), lambda: rlexp.load_study("no_such_study"), lambda: rlexp.load_policy(".")],
)  # fmt: skip
def test_refusals_are_short(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No frames but the caller's and one of ours, nothing chained; in a notebook the message alone."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(rlexp.Refusal) as refused:
        call()
    error = refused.value
    assert len(traceback.extract_tb(error.__traceback__)) == 3  # this test, its lambda, the public function
    text = "".join(traceback.format_exception(error))
    assert "direct cause" not in text and "During handling" not in text and "hydra" not in text
    assert "\nrlexp.Refusal: " in text and "expected" in text
    assert error._render_traceback_() == f"refused: {clean(error)}".splitlines()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert not [path for path in tmp_path.rglob("*") if path.name == "job.json"]


def test_failures_keep_their_traceback_but_notebooks_show_a_sentence() -> None:
    assert issubclass(rlexp.Diverged, rlexp.Failure) and issubclass(rlexp.Interrupted, KeyboardInterrupt)
    assert rlexp.Diverged("2 of 3 trials diverged")._render_traceback_() == ["failed: 2 of 3 trials diverged"]
