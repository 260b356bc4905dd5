"""Jobs of a sweep as tasks of a Ray cluster: the only module that imports ray.

A job is one task, in a process of its own. One whose node dies is submitted again, and Ray places it on another; all
else that can happen to a task is left to the sweeper, which sees which jobs have left no outcome.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from rlexp.system.errors import Refusal, refusal

CARRIED = ("PYTHONPATH", "MLFLOW_", "TF_", "XLA_FLAGS")  # environment variables (and prefixes) that go with each job
PATIENCE = 60  # seconds that interrupted jobs have to write their checkpoints
OWN = {"include_dashboard": False, "object_store_memory": 100 * 2**20}  # of a cluster that is started for one sweep


def installed() -> bool:
    """Whether Ray is; does not import it."""
    return importlib.util.find_spec("ray") is not None


class RayCluster:
    """A cluster to run tasks on.

    Args:
        address: of a running cluster, "auto" (this machine is a node of it) or "host:port"; None: one is started on
            this machine and ends with this process.
        init: further arguments of `ray.init`; those that are None are left out.
        options: of each task, as `ray.remote` takes them: num_cpus, num_gpus, ...
        max_retries: how often a task is submitted again whose node died.
    """

    def __init__(
        self, address: str | None, init: Mapping[str, Any], options: Mapping[str, Any], max_retries: int
    ) -> None:
        self.address, self.max_retries = address, max_retries
        self._init = {name: value for name, value in init.items() if value is not None}
        self._options = dict(options)

    def check(self) -> None:
        """Raises `Refusal` where Ray is not installed or a value is wrong."""
        if not installed():
            raise Refusal(
                "hydra/launcher=ray: expected the package ray, which is not installed.\n"
                "pip install -c constraints.txt 'rlexp[ray]'"
            )
        numbers = {"num_cpus": self._options["num_cpus"], "num_gpus": self._options["num_gpus"]}
        for name, value in {**numbers, "max_retries": self.max_retries}.items():
            kind, what = (int, "a whole number") if name == "max_retries" else ((int, float), "a number")
            if isinstance(value, bool) or not isinstance(value, kind) or not 0 <= value < float("inf"):
                raise refusal(f"hydra.launcher.{name}", f"{what}, 0 or more", repr(value))

    def connect(self) -> None:
        """Join the cluster, or start one, unless that is done.

        Raises:
            Refusal: where that fails, or where no node is large enough for a task.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray's telemetry
        import ray

        if ray.is_initialized():
            return
        own = OWN if self.address is None else {}
        arguments = {"address": self.address or "local", "logging_level": logging.WARNING, **own, **self._init}
        try:
            self._knock()
            ray.init(**arguments)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            received = f"{self.address!r} ({_last_line(error)})"
            start = "Start one: ray start --head   or leave the address out: one is started here for this sweep."
            raise refusal("hydra.launcher.address", "a Ray cluster that can be reached", received, start) from error
        needed = {"CPU": self._options["num_cpus"], "GPU": self._options["num_gpus"]}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0) >= n for name, n in needed.items()) for node in nodes):
            most = {name: max(node.get(name, 0) for node in nodes) for name in needed}
            raise refusal(
                "hydra.launcher.num_cpus and num_gpus",
                f"at most what a node of the cluster has ({most['CPU']:g} and {most['GPU']:g})",
                f"{needed['CPU']:g} and {needed['GPU']:g}",
            )

    def _knock(self) -> None:
        """Raises `OSError` where nobody answers at the address: Ray itself would ask for a quarter of an hour."""
        host, _, port = (self.address or "").rpartition(":")
        if host and port.isdecimal():
            socket.create_connection((host, int(port)), timeout=10).close()

    def run(self, calls: Mapping[int, Callable[[], Any]]) -> dict[int, Any]:
        """Run functions without arguments, each as a task; results of those that came back, by number.

        A function is called with this process' search path, its working directory where the node has it, and those
        variables of its environment that are `CARRIED`. What went wrong with others is said on stderr.

        Raises:
            KeyboardInterrupt: after a signal, once the tasks were interrupted too and have ended.
        """
        import ray

        task = ray.remote(max_retries=0, max_calls=1, **self._options)(_task())
        environ = {name: value for name, value in os.environ.items() if name.startswith(CARRIED)}
        here = ray.put({"path": sys.path, "environ": environ, "cwd": os.getcwd()})

        refs: dict[int, Any] = {}

        def submit(number: int) -> Future[Any]:
            named = task.options(name=f"job {number}")
            refs[number] = named.remote(ray.cloudpickle.dumps(calls[number]), here)
            return refs[number].future()

        results: dict[int, Any] = {}
        stopped: Counter[int] = Counter()
        running: dict[Future[Any], int] = {}
        try:
            running |= {submit(number): number for number in calls}
            while running:
                # Not ray.wait, which makes every exception of a signal's handler a plain KeyboardInterrupt.
                for ended in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(ended)
                    try:
                        results[number] = ended.result()
                    except (ray.exceptions.NodeDiedError, ray.exceptions.TaskCancelledError):  # nobody here cancels
                        stopped[number] += 1
                        again = stopped[number] <= self.max_retries
                        if again:
                            running[submit(number)] = number
                        _say(f"job {number}: its node went away{'; it is started again' if again else ''}")
                    except (
                        Exception
                    ) as error:  # of a process that died, or on the way back: the sweep looks what is there
                        _say(f"job {number}: {type(error).__name__}: {_last_line(error)}")
        except BaseException:
            _say(f"interrupted: {len(running)} jobs are told to write their checkpoints (a second time: leave at once)")
            for number in running.values():
                ray.cancel(refs[number])  # a KeyboardInterrupt in the job
            wait(running, timeout=PATIENCE)
            raise
        return results


def _task() -> Callable[[bytes, dict[str, Any]], Any]:
    """What a worker runs. A function in a function travels whole: the worker must not import this package before its
    search path is set."""

    def task(call: bytes, here: dict[str, Any]) -> Any:
        import os
        import pickle
        import sys

        sys.path[:] = dict.fromkeys([*here["path"], *sys.path])
        os.environ.update(here["environ"])
        if os.path.isdir(here["cwd"]):
            os.chdir(here["cwd"])
        from rlexp.sweeps import plugins

        plugins.register()  # what the call holds may come from there
        return pickle.loads(call)()

    return task


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[-1]


def _say(text: str) -> None:
    print(f"ray: {text}", file=sys.stderr, flush=True)
