"""The part `start` of benchmark.py: where the seconds go from command to the first training step of the default job.

The first training step is the moment at which the first call of the compiled training program that takes lock-steps has
returned. `python scripts/start.py FILE key=value ...` runs the command `rlexp` with functions and imports timed from
outside, writes the spans to FILE at that moment, and stops the job as Ctrl-C does.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from measuring import Row, spread

Spans = list[tuple[str, float, float]]  # what, and from when to when, in seconds of `time.monotonic`

START = "Python, the command line, everything else"
IMPORTS = {  # top-level package: what its import counts as
    "gymnasium": "import of Gymnasium",
    "hydra": "import of Hydra",
    "keras": "import of Keras",
    "numpy": "import of NumPy",
    "omegaconf": "import of Hydra",
    "tensorflow": "import of TensorFlow",
}
# Module: function: what its calls count as, without the parts that another row counts. They end before the first step.
CALLS = {
    "hydra._internal.hydra": {"Hydra.compose_config": "Hydra composes the configuration"},
    "rlexp.cli.run": {"build": "checks of the configuration"},
    "rlexp.jobs.runner": {"resolve": "checks of environment and algorithm"},
    "rlexp.system.backend": {"prepare": "import of TensorFlow"},
    "rlexp.engines.in_process": {"build_agent": "networks, initial weights"},
    "rlexp.jobs.job_folder": {"JobRun.prepare_folder": "the job's folder"},
    "rlexp.tracking.follower": {"MLflowTracker.start": "start of MLflow's process"},
    "rlexp.engines.fused.base": {"Program.__call__": "XLA compiles, and runs"},
    "rlexp.engines.fused.evaluation": {"FusedEvaluator.periodic": "evaluation program"},
    "tensorflow.python.eager.polymorphic_function.polymorphic_function": {
        "Function.get_concrete_function": "tracing of the programs"
    },
}
LOOP, CALL = "rlexp.engines.fused.replay", "FusedReplayLoop.call"  # returns the lock-steps that it took

_spans: Spans = []


def start(output: Path, rounds: int) -> list[Row]:
    """Time the import of TensorFlow, and the default job until its first training step, in turn."""
    from rlexp.system import backend

    backend.set_environment()  # so that both have what rlexp sets
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    whole: list[float] = []
    imports: list[float] = []
    tables: list[dict[str, float]] = []
    # The first pair does not count: it reads files into memory, writes bytecode, and creates MLflow's store.
    for i in range(-1, rounds):
        seconds: dict[str, float] = {}
        for name in ("import", "job") if i % 2 else ("job", "import"):
            began = time.monotonic()
            if name == "import":
                code = "import tensorflow, time; print(time.monotonic())"
                seconds[name] = float(_output(["-c", code], environment)) - began
            else:
                file = output / f"start-{i}.json"
                _output([__file__, str(file), f"output_dir={output / 'start'}", f"seed={i + 1}"], environment, 130)
                spans: Spans = json.loads(file.read_text())
                ended = max(end for _, _, end in spans)
                seconds[name] = ended - began
                table = shares([(START, began, ended), *spans])
        if i >= 0:
            whole.append(seconds["job"])
            imports.append(seconds["import"])
            tables.append(table)
    _print(tables)
    ratios = [job / alone for job, alone in zip(whole, imports, strict=True)]
    text = f"{spread(ratios, '.2f')}; {spread(whole, '.2f')} s and {spread(imports, '.2f')} s"
    what = "from command to the first training step of the default job, against `import tensorflow`"
    return [Row(what, "<= 1.3", text, median(ratios) <= 1.3)]


def shares(spans: Spans) -> dict[str, float]:
    """The seconds of each kind of span; at each moment the shortest of the open spans counts, in whichever thread."""
    times = sorted({moment for _, begin, end in spans for moment in (begin, end)})
    seconds: dict[str, float] = {}
    for begin, end in pairwise(times):
        open_ones = [span for span in spans if span[1] <= begin and span[2] >= end]
        what = min(open_ones, key=lambda span: span[2] - span[1])[0]
        seconds[what] = seconds.get(what, 0.0) + end - begin
    return seconds


def _print(tables: Sequence[Mapping[str, float]]) -> None:
    """Print the medians of the rounds, in the order in which things begin."""
    names = list(dict.fromkeys(name for table in tables for name in table))
    print("| from command to the first training step | seconds |\n|---|---|")
    for name in names:
        print(f"| {name} | {spread([table.get(name, 0.0) for table in tables], '.2f')} |")
    print(flush=True)


def _output(words: Sequence[str], environment: Mapping[str, str], status: int = 0) -> str:
    """What a Python process prints, which must end with `status`."""
    done = subprocess.run([sys.executable, *words], env=dict(environment), capture_output=True, text=True)
    if done.returncode != status:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def _span(what: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        _spans.append((what, began, time.monotonic()))


def _timed(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with _span(what):
            return function(*args, **kwargs)

    return call


def _replace(module: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a function, or a method `Class.method`, of a module."""
    *owners, last = name.split(".")
    for owner in owners:
        module = getattr(module, owner)
    setattr(module, last, wrap(getattr(module, last)))


class _Watch(importlib.abc.MetaPathFinder):
    """Times imports, and replaces functions of modules that have just been imported."""

    def __init__(self, file: Path) -> None:
        self._file, self._finding = file, set[str]()

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """The spec that the other finders find, with a loader that is watched."""
        if name in self._finding or name not in {*IMPORTS, *CALLS, LOOP}:
            return None
        self._finding.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._finding.discard(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                (_timed(load, IMPORTS[name]) if name in IMPORTS else load)(module)
                self._patch(name, module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _patch(self, name: str, module: Any) -> None:
        for function, what in CALLS.get(name, {}).items():
            _replace(module, function, lambda own, what=what: _timed(own, what))  # type: ignore[misc]
        if name == LOOP:
            _replace(module, CALL, self._until_first_step)

    def _until_first_step(self, call: Callable[..., int]) -> Callable[..., int]:
        def watched(*args: Any) -> int:
            with _span("the loop around its programs"):
                taken = call(*args)
            if taken > 0 and not self._file.exists():
                self._file.write_text(json.dumps(_spans))
                os.kill(os.getpid(), signal.SIGINT)
            return taken

        return watched


def _run(file: str, *overrides: str) -> int:
    sys.meta_path.insert(0, _Watch(Path(file)))
    from rlexp.cli.main import main

    sys.argv[1:] = overrides
    return main(alone="run")


if __name__ == "__main__":
    sys.exit(_run(*sys.argv[1:]))
