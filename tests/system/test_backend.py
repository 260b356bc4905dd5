"""The import of TensorFlow without the packages that only other programs need."""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rlexp.system import backend

REQUIREMENT = re.compile(r"[A-Za-z0-9_.-]+")


def test_optional_packages_are_hidden_only_while_tensorflow_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("optional_here", "optional_known"):
        (tmp_path / f"{name}.py").write_text("there = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(backend, "OPTIONAL", ("optional_here", "optional_known"))
    importlib.import_module("optional_known")
    finders, collects = list(sys.meta_path), gc.isenabled()
    with pytest.raises(RuntimeError), backend.lean_import():
        assert not gc.isenabled()
        with pytest.raises(ModuleNotFoundError, match="optional_here is hidden while TensorFlow is imported"):
            importlib.import_module("optional_here")
        assert importlib.import_module("optional_known").there  # imported already, so that hiding it saves nothing
        raise RuntimeError
    gc.unfreeze()
    assert sys.meta_path == finders and gc.isenabled() == collects
    assert importlib.import_module("optional_here").there
    for name in backend.OPTIONAL:
        del sys.modules[name]


def test_tensorflow_and_keras_do_not_require_what_is_hidden() -> None:
    distributions = {"sklearn": {"scikit-learn"}, "cv2": {"opencv-python", "opencv-python-headless"}}
    hidden = {name for module in backend.OPTIONAL for name in distributions.get(module, {module})}
    for name in ("tensorflow", "keras"):
        lines = [line for line in importlib.metadata.requires(name) or [] if "extra ==" not in line]
        found = {match[0].lower() for line in lines if (match := REQUIREMENT.match(line))}
        assert "numpy" in found and not found & hidden, name


@pytest.mark.slow  # imports TensorFlow in a process of its own
def test_a_lean_import_leaves_out_the_optional_packages_and_keras_works(tmp_path: Path) -> None:
    code = """
import sys
from rlexp.system import backend
assert backend.prepare("cpu", lean=True) == "cpu"
print(sorted(set(backend.OPTIONAL) & sys.modules.keys()))
import keras
model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
model.save(sys.argv[1])
print(keras.models.load_model(sys.argv[1]).output_shape)
import pandas, scipy.stats, sklearn, matplotlib.pyplot
print(pandas.DataFrame([1]).shape)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "model.keras")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == ["[]", "(None, 2)", "(1, 1)"], done.stderr
