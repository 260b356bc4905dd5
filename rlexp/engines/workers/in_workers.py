"""The training of a job's trials in worker processes, each of which trains a part of them.

A trial's numbers do not depend on what runs beside it, so that the job's records, checkpoints and results are those of
one process. This process keeps what a job is: the records in their order, checkpoints, progress, signals.

Axes: N trials of the job, n trials of one worker, P parameters of a trial.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlexp.config import registry
from rlexp.config.schema.job import Settings
from rlexp.data.checkpoint import State
from rlexp.engines import parts
from rlexp.engines.building import BuiltAgent, build_agent
from rlexp.engines.evaluation import Scores
from rlexp.engines.services import Pruned, Services
from rlexp.engines.trial_results import Results
from rlexp.engines.workers.board import ENDED, Board, shared_file
from rlexp.engines.workers.handle import Handle, wait_for_exit
from rlexp.engines.workers.merging import MergedRecords, failed_results, failed_state
from rlexp.engines.workers.messages import (
    At,
    Build,
    Built,
    Evaluated,
    Failed,
    GoTo,
    Message,
    Open,
    Opened,
    Phase,
    Record,
    Said,
    Save,
    Saved,
    Score,
    Scored,
    Shown,
    Train,
    Trained,
    Verdict,
)
from rlexp.engines.workers.worker import Worker
from rlexp.envs.info import EnvInfo
from rlexp.system import cores
from rlexp.system.errors import Failure, Refusal
from rlexp.system.stopping import Interrupted, raise_if_stopped
from rlexp.system.watched import POLL

if TYPE_CHECKING:
    import keras


class CannotStart(Failure):
    """A worker process has died, or could not build its agent, before training began."""


@dataclass
class _Meeting:
    """A checkpoint on its way.

    Attributes:
        number: of the request.
        signum: the signal that the job stops with; None: it goes on.
        step: its lock-step, once it is settled.
        cost: measures its cost, from then on.
    """

    number: int
    signum: int | None
    step: int | None = None
    cost: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


def _limits_threads(settings: Settings, info: EnvInfo) -> bool:
    """Whether a worker has one thread per operation, or its share of the cores.

    Operations side by side, without XLA, such as convolutions of large images, add in an order that depends on the
    number of threads: they keep those of one process.
    """
    keras = registry.family(settings.algo.name).keras
    return not keras or registry.is_mapped(settings.network, info.observation_shape) is True


class InWorkers:
    """A `loop.Trainer` that deals the trials out to worker processes.

    Args:
        settings, info: of the job, or of a group of jobs.
        warn: called with each warning.
        num_workers: at least 1, no more than trials.
        folder: of the job; its crash.txt gets the tracebacks of workers that die.

    Raises:
        Refusal: for an agent that cannot be built.
        CannotStart: for a worker that cannot begin.
    """

    def __init__(
        self, settings: Settings, info: EnvInfo, warn: Callable[[str], None], num_workers: int, folder: Path
    ) -> None:
        self._settings, self._info, self._folder, self.num_workers = settings, info, folder, num_workers
        self._warn, self._said_once = warn, set[str]()
        self._services: Services | None = None
        self._records: MergedRecords | None = None
        self._final: dict[int, Record] | None = None  # the last records, of the scores
        self._meeting: _Meeting | None = None
        self._results: Results | None = None
        self._agent: BuiltAgent | None = None  # of this process, see `_deploy`
        self._workers: list[Worker] = []
        self._checked = 0.0  # when it was last looked whether processes live
        descriptor, environment = shared_file(), cores.of_a_worker(num_workers, _limits_threads(settings, info))
        try:
            self._board = Board(descriptor, num_workers)
            for i, rows in enumerate(parts.even(settings.trials, num_workers)):
                self._workers.append(Worker(Handle(i, num_workers, descriptor, environment), rows))
            for worker in self._workers:
                worker.handle.send(Build(parts.settings_of(settings, worker.rows), info))
            built = self._answers(Built)
        except (Refusal, KeyboardInterrupt):
            self.release()
            raise
        except Exception as error:
            self.release()
            raise CannotStart(f"worker processes cannot start: {error}") from error
        finally:
            os.close(descriptor)
        if dead := [worker for worker in self._workers if worker.note]:
            self.release()
            raise CannotStart(f"worker processes cannot start: {dead[0].note}")
        self.device: str = built[0].device
        self.deploy: Callable[[np.ndarray], keras.Model] | None = self._deploy if built[0].deployable else None

    def open(self, services: Services, state: State | None) -> None:
        """As `Trainer.open`."""
        self._services = services
        prunes = services.prune is not None
        for worker in self._workers:
            own = parts.cut(state, worker.rows) if state is not None else None
            worker.handle.send(Open(own, prunes))
            worker.known = own["trials"] if own is not None else {}
        answers = self._answers(Opened)
        for worker, opened in zip(self._live(), answers, strict=True):
            worker.initial, worker.t = opened.params, opened.t
        for worker in self._workers:
            if worker.note:  # its environments cannot even be made
                worker.initial = np.zeros((worker.size, answers[0].params.shape[1]), answers[0].params.dtype)
            worker.eval_return = np.full(worker.size, np.nan)
            if worker.known:
                worker.eval_return = worker.known["eval_return"]
        steps = np.zeros(self._settings.trials, np.int64) if state is None else state["trials"]["counts"]["step"]
        self._records = MergedRecords(services.recorder, [worker.rows for worker in self._workers], steps)

    @property
    def t(self) -> int:
        """Env steps so far of each trial that still trains."""
        return max(worker.t for worker in self._workers)

    def train(self) -> None:
        """As `Trainer.train`."""
        for worker in self._live():
            self._board.put(worker.handle.number, worker.t)
            worker.training = True
            worker.handle.send(Train())
        while self._training():
            self._listen()
            assert self._records is not None
            self._records.write_complete([worker.handle.number for worker in self._training()])
            self._show()
            self._ask_the_search()
            self._meet()
        self._meeting = None
        for worker in self._workers:  # what was sent for a checkpoint that is overtaken by the end
            worker.state, worker.asked = None, False
        returns = np.concatenate([worker.eval_return for worker in self._workers])
        self._open_services().progress.update(1.0, self.t, returns)

    def save(self) -> None:
        """As `Trainer.save`."""
        with self._open_services().checkpoints.saving():
            self._collect(())
            self._write_checkpoint()

    def score(self) -> Scores:
        """As `Trainer.score`."""
        services = self._open_services()
        self._final = {}
        for worker in self._live():
            worker.handle.send(Score())
        scored = self._answers(Scored, lambda: raise_if_stopped(services.stop))
        by_worker = dict(zip((worker.handle.number for worker in self._live()), scored, strict=True))
        results, scores = [], []
        for worker in self._workers:
            own = by_worker.get(worker.handle.number)
            if own is None:
                results.append(failed_results(worker.known, worker.note, worker.handle.crash_text()))
                shape = worker.size, len(scored[0].scores.seeds)
                scores.append(Scores(scored[0].scores.seeds, np.full(shape, np.nan), np.zeros(shape, np.int64)))
            else:
                results.append(own.results)
                scores.append(own.scores)
        self._results = Results.join(results)
        rows = [worker.rows for worker in self._workers]
        MergedRecords(services.recorder, rows, self._results.counts["step"]).write(self._final)
        returns, lengths = (np.concatenate([getattr(own, name) for own in scores]) for name in ("returns", "lengths"))
        return Scores(scores[0].seeds, returns, lengths)

    def results(self) -> Results:
        """As `Trainer.results`."""
        assert self._results is not None, "score comes first"
        return self._results

    def close(self) -> None:
        """As `Trainer.close`."""
        for worker in self._live():
            worker.handle.close()
        wait_for_exit([worker.handle for worker in self._live()])
        for worker in self._live():
            for message in worker.messages():
                self._take(worker, message)
            if (status := worker.handle.exit_status()) != 0:
                how = "did not end in time" if status is None else f"ended with exit status {status}"
                self._warn(f"{self._settings.env.id}: a worker process {how} when it closed; its results are in")

    def release(self) -> None:
        """As `Trainer.release`."""
        for worker in self._workers:
            worker.handle.release()

    def _deploy(self, row: np.ndarray) -> keras.Model:
        """The Keras model of a trial's weights [P]; this process builds its network only now."""
        if self._agent is None:
            self._agent = build_agent(parts.settings_of(self._settings, slice(0, 1)), self._info, self._warn)
        assert self._agent.deploy is not None
        return self._agent.deploy(row)

    def _live(self) -> list[Worker]:
        """Workers whose process has not died."""
        return [worker for worker in self._workers if not worker.note]

    def _training(self) -> list[Worker]:
        return [worker for worker in self._live() if worker.training]

    def _open_services(self) -> Services:
        assert self._services is not None, "open comes first"
        return self._services

    def _answers(self, kind: type, check: Callable[[], None] = lambda: None) -> list[Any]:
        """Wait for the answers of all live workers to one order; raises what went wrong there, or what `check` does."""
        for worker in self._workers:
            worker.answer = None
        while any(worker.answer is None for worker in self._live()):
            self._listen()
            check()
        answers = [worker.answer for worker in self._live()]
        assert all(isinstance(answer, kind) for answer in answers), f"expected {kind.__name__}, received {answers}"
        return answers

    def _listen(self) -> None:
        """Take what the workers say, for a moment; find out which have died."""
        connections = {worker.handle.connection: worker for worker in self._live()}
        for connection in wait(list(connections), POLL):
            worker = connections[connection]  # type: ignore[index]
            for message in worker.messages():
                self._take(worker, message)
        now = time.monotonic()
        if now - self._checked < POLL:
            return
        self._checked = now
        for worker in self._live():
            if worker.handle.is_dead(self._folder):
                self._bury(worker)

    def _take(self, worker: Worker, message: Message) -> None:
        """Take one message of a worker."""
        if isinstance(message, Said):
            self._pass_on(message)
        elif isinstance(message, Phase):
            worker.phase = message
            least = min(filter(None, (other.phase for other in self._live())), key=Phase.order)
            self._open_services().progress.phase(least.what, least.done, least.total)
        elif isinstance(message, Record):
            if self._final is not None:
                self._final[worker.handle.number] = message
            else:
                assert self._records is not None, "records come after Open"
                self._records.add(worker.handle.number, message)
        elif isinstance(message, Shown | Evaluated):
            worker.share, worker.eval_return = message.done, message.eval_return
            if isinstance(message, Evaluated):
                worker.evaluated, worker.at = message, message.t
        elif isinstance(message, At):
            worker.at = message.t
        elif isinstance(message, Saved):
            worker.t, worker.state = message.t, message.state
        elif isinstance(message, Failed):
            raise message.error
        else:
            worker.answer = message
            if isinstance(message, Trained):
                worker.training, worker.t, worker.share = False, message.t, 1.0

    def _pass_on(self, said: Said) -> None:
        """Show a line; what several workers say alike, once."""
        compiled = not said.warning and " compiled in " in said.text  # seconds differ
        key = said.text.split(" in ")[0] if compiled else said.text
        if key in self._said_once:
            return
        if said.warning or compiled:
            self._said_once.add(key)
        progress = None if self._services is None else self._services.progress
        if said.warning or progress is None:
            self._warn(said.text)
        else:
            progress.say(said.text)

    def _bury(self, worker: Worker) -> None:
        """Let the trials of a worker that has died fail, and the others go on.

        Raises:
            Failure: if no worker is left.
        """
        assert worker.handle.dead is not None
        how = worker.handle.dead.how
        names = ", ".join(self._settings.trial_name(k) for k in range(self._settings.trials)[worker.rows])
        worker.note = f"its process died ({how})"
        worker.training = False
        self._board.put(worker.handle.number, ENDED)
        if not self._live():
            raise Failure(f"{self._settings.env.id}: the processes of all trials have died; the last one: {how}")
        if self._services is not None:
            self._services.progress.say(f"trials {names} failed: their process died ({how}); they are masked")

    def _show(self) -> None:
        """Show the progress of all trials as one."""
        live = self._live()
        share = sum(worker.share * worker.size for worker in live) / sum(worker.size for worker in live)
        step = self._board.least()
        if step < ENDED:  # the last word comes when all have ended
            returns = np.concatenate([worker.eval_return for worker in self._workers])
            self._open_services().progress.update(min(share, 0.999), step, returns)

    def _ask_the_search(self) -> None:
        """Once all have evaluated: ask the search whether the job is to end, and tell them."""
        services, training = self._open_services(), self._training()
        if services.prune is None or not training or any(worker.evaluated is None for worker in training):
            return
        t = max(worker.evaluated.t for worker in training if worker.evaluated)
        share = sum(worker.share * worker.size for worker in self._workers) / self._settings.trials
        returns = np.concatenate([worker.eval_return for worker in self._workers])
        active = any(worker.evaluated.active for worker in training if worker.evaluated)
        prune = services.prune(t, share, returns)
        for worker in training:
            worker.evaluated, worker.at = None, None
            worker.handle.send(Verdict(prune))
        if prune and active:
            with services.checkpoints.saving():
                self._collect(training)
                self._write_checkpoint()
            raise_if_stopped(services.stop)
            raise Pruned(t)

    def _meet(self) -> None:
        """Bring a checkpoint that is due, or one before a stop, a little further."""
        services, meeting, training = self._open_services(), self._meeting, self._training()
        if not training:
            return
        if meeting is None:
            signum = services.stop()
            if signum is not None or services.checkpoints.due():
                self._board.request += 1
                self._meeting = _Meeting(self._board.request, signum)
        elif meeting.step is None:
            if all(worker.at is not None for worker in training):
                # Not before the end of those that have ended: a checkpoint is of one lock-step.
                meeting.step = max(worker.t if worker.at is None else worker.at for worker in self._live())
                meeting.cost.enter_context(services.checkpoints.saving())
                for worker in training:
                    worker.at = None
                    worker.handle.send(GoTo(meeting.number, meeting.step, meeting.signum))
        elif self._all_have_sent(training):
            with meeting.cost:
                self._write_checkpoint()
            self._meeting = None
            if meeting.signum is not None:
                raise Interrupted(meeting.signum)

    def _all_have_sent(self, sending: Sequence[Worker]) -> bool:
        """Whether all live workers have sent their state; asks those that do not send it by themselves."""
        missing = [worker for worker in self._live() if worker.state is None]
        for worker in missing:
            if worker not in sending and not worker.asked:
                worker.asked = True
                worker.handle.send(Save())
        return not missing

    def _collect(self, sending: Sequence[Worker]) -> None:
        """Wait until all live workers have sent their state; those in `sending` do so by themselves."""
        while not self._all_have_sent(sending):
            self._listen()

    def _write_checkpoint(self) -> None:
        """Write the states that have been collected as one checkpoint."""
        services = self._open_services()
        assert self._records is not None
        like = next(worker.state for worker in self._live() if worker.state is not None)
        states = []
        for worker in self._workers:
            if worker.note:
                state = failed_state(worker.known, like, worker.initial, worker.note)
            else:
                assert worker.state is not None
                state = worker.state
            states.append(state)
            worker.known = state["trials"]
            worker.state, worker.asked = None, False
        joined = parts.join(states, [worker.size for worker in self._workers])
        t = joined["trials"]["t"]
        self._records.write_up_to(t)
        position = services.recorder.sync()
        own = {"position": position, "digest": services.recorder.digest, "seconds": services.seconds()}
        services.checkpoints.save(t, {**joined, "trials": {**joined["trials"], **own}})
