"""Jobs of a sweep as tasks of a Ray cluster: the only module that imports ray.

A job is one task, in a process of its own. If its node dies, the task is submitted again, and Ray places it on another
node. Everything else that can happen to a task is left to the sweeper, which looks for jobs without an outcome.
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

CARRIED = ("PYTHONPATH", "MLFLOW_", "TF_", "XLA_FLAGS")  # environment variables (prefixes) that each job gets
CHECKPOINT_SECONDS = 60  # how long interrupted jobs have to write their checkpoints
OWN = {
    "include_dashboard": False,
    "object_store_memory": 100 * 2**20,
}  # options of a cluster that is started for one sweep


def installed() -> bool:
    """Whether Ray is installed; does not import it."""
    return importlib.util.find_spec("ray") is not None


class RayCluster:
    """A cluster to run tasks on.

    Args:
        address: of a running cluster: "auto" (this machine is one of its nodes) or "host:port"; None: start a cluster
            on this machine, which ends with this process.
        init: further arguments of `ray.init`; those that are None are left out.
        options: arguments of `ray.remote` for each task: num_cpus, num_gpus, ...
        max_retries: how often a task is submitted again after its node died.
    """

    def __init__(
        self, address: str | None, init: Mapping[str, Any], options: Mapping[str, Any], max_retries: int
    ) -> None:
        self.address, self.max_retries = address, max_retries
        self._init = {name: value for name, value in init.items() if value is not None}
        self._options = dict(options)

    def check(self) -> None:
        """Raise `Refusal` if Ray is not installed or an option is wrong."""
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
        """Join the cluster, or start one, unless that has happened.

        Raises:
            Refusal: if that fails, or if no node is large enough for a task.
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
            start = (
                "Start one: ray start --head. Or leave the address out: a cluster is then started here for this sweep."
            )
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
        """Raise `OSError` if nothing answers at the address: Ray itself would retry for a quarter of an hour."""
        host, _, port = (self.address or "").rpartition(":")
        if host and port.isdecimal():
            socket.create_connection((host, int(port)), timeout=10).close()

    def run(self, calls: Mapping[int, Callable[[], Any]]) -> dict[int, Any]:
        """Run functions without arguments, each as a task; returns the results of those that succeeded, by number.

        A function runs with the search path of this process, its working directory if the node has it, and the
        environment variables in `CARRIED`. Failures are printed to stderr.

        Raises:
            KeyboardInterrupt: after a signal, once the tasks have been interrupted and have ended.
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
                # `ray.wait` would turn every exception of a signal handler into a plain KeyboardInterrupt.
                for ended in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(ended)
                    try:
                        results[number] = ended.result()
                    except (ray.exceptions.NodeDiedError, ray.exceptions.TaskCancelledError):  # nothing here cancels
                        stopped[number] += 1
                        again = stopped[number] <= self.max_retries
                        if again:
                            running[submit(number)] = number
                        _say(f"job {number}: its node died{'; starting it again' if again else ''}")
                    except (
                        Exception
                    ) as error:  # of a process that died, or on the way back: the sweep looks what is there
                        _say(f"job {number}: {type(error).__name__}: {_last_line(error)}")
        except BaseException:
            _say(f"interrupted: {len(running)} jobs write their checkpoints (interrupt again to leave at once)")
            for number in running.values():
                ray.cancel(refs[number])  # a KeyboardInterrupt in the job
            wait(running, timeout=CHECKPOINT_SECONDS)
            raise
        return results


def _task() -> Callable[[bytes, dict[str, Any]], Any]:
    """The function that a worker runs.

    A nested function is pickled by value: the worker must not import this package before its search path is set.
    """

    def task(call: bytes, here: dict[str, Any]) -> Any:
        import os
        import pickle
        import sys

        sys.path[:] = dict.fromkeys([*here["path"], *sys.path])
        os.environ.update(here["environ"])
        if os.path.isdir(here["cwd"]):
            os.chdir(here["cwd"])
        from rlexp.sweeps import plugins

        plugins.register()  # the call may hold objects of theirs
        return pickle.loads(call)()

    return task


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[-1]


def _say(text: str) -> None:
    print(f"ray: {text}", file=sys.stderr, flush=True)
