"""Workers on a Ray cluster: what they are given is finished once, whoever of them is lost.

Ray places, starts and supervises the processes. What is here is what it leaves to its users: how much a worker is given
at a time, when something is tried again, and that nobody waits for the slowest.
"""

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from withhold.cluster import reason_of
from withhold.errors import RunStopped, WithholdError
from withhold.progress import Reporter

TRIES = 4
"""Attempts at one thing before the run stops: something about it ends the workers, or their storage fails."""

STARTS = 3
"""Workers in a row that fail to start before the run stops."""

PATIENCE = 30.0
"""Seconds without any worker after which that is said."""

KEPT = "What is finished is kept; run the same command again to go on."


class Task(Protocol):
    """Something to be done, with a name of its own."""

    @property
    def name(self) -> str:
        """Name it."""
        ...


TaskOf = TypeVar("TaskOf", bound=Task)
Result = TypeVar("Result")

Start = Callable[[], tuple[Any, Any]]
"""Starts a worker: an actor with a method `run`, and a reference to its sign that it can work."""


def never(_: Exception) -> bool:
    """Try nothing again that a worker refused."""
    return False


@dataclass(eq=False, slots=True)
class _Worker:
    """A worker as the driver sees it; it holds so many tasks."""

    actor: Any
    tasks: int = 0


class RemoteWorkers(Generic[TaskOf, Result]):
    """Gives tasks to workers until each is finished, and replaces workers that are lost.

    Args:
        ray: The module, joined to a cluster.
        start: Starts one; Ray waits for a machine with room.
        count: Workers at a time.
        held: Tasks that a worker has at a time.
        again: Whether what a task raised is worth another attempt; the loss of a worker always is.
        overtaking: A worker without anything to do is given what another one has not finished. The first to finish
            counts; so a second result must be the same, and do no harm.
    """

    def __init__(
        self,
        ray: Any,  # noqa: ANN401 - a module
        start: Start,
        count: int,
        reporter: Reporter,
        *,
        held: int = 1,
        again: Callable[[Exception], bool] = never,
        overtaking: bool = False,
    ) -> None:
        self._ray, self._start, self._count, self._reporter = ray, start, count, reporter
        self._held_by_one, self._worth_another, self._overtaking = held, again, overtaking
        self._starting: dict[Any, _Worker] = {}
        self._working: list[_Worker] = []
        self._held: dict[Any, tuple[_Worker, TaskOf]] = {}
        self._copies: Counter[str] = Counter()
        self._finished: set[str] = set()  # of those that somebody still holds
        self._again: deque[TaskOf] = deque()
        self._exhausted = False
        self._tries: Counter[str] = Counter()
        self._failed_starts = self._retries = 0

    def run(self, tasks: Iterable[TaskOf]) -> Generator[tuple[TaskOf, Result | Exception], None, None]:
        """Yield each task once, as it is finished: with its result, or with what it raised.

        Closing the generator ends the workers.

        Raises:
            RunStopped: Workers do not start, or a task ended several of them.
        """
        todo = iter(tasks)
        try:
            for _ in range(self._count):
                self._hire()
            while True:
                self._give(todo)
                if self._exhausted and not self._again and self._finished.issuperset(self._copies):
                    return
                self._reporter.status(workers=len(self._working), retries=self._retries)
                found, _ = self._ray.wait([*self._starting, *self._held], num_returns=1, timeout=PATIENCE)
                for reference in found:
                    if reference in self._starting:
                        self._greet(reference)
                    else:
                        yield from self._take(reference)
                if not found and not self._working:
                    self._reporter.say("No worker is there yet; waiting for machines with room for one.")
        finally:
            for worker in [*self._starting.values(), *self._working]:
                self._ray.kill(worker.actor)

    def _hire(self) -> None:
        actor, ready = self._start()
        self._starting[ready] = _Worker(actor)

    def _greet(self, reference: Any) -> None:  # noqa: ANN401 - of Ray
        """Take in a worker that started, or replace one that failed to.

        Raises:
            RunStopped: Several in a row failed.
            WithholdError: It cannot work where it is.
        """
        worker = self._starting.pop(reference)
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                msg = (
                    f"{STARTS} workers in a row failed to start, the last one with: {reason_of(error)}. See the logs "
                    f"of Ray on their machines. {KEPT}"
                )
                raise RunStopped(msg) from error
            self._hire()
        else:
            self._working.append(worker)
            self._failed_starts = 0

    def _give(self, todo: Iterator[TaskOf]) -> None:
        while self._working:
            worker = min(self._working, key=lambda each: each.tasks)
            task = self._next(todo, idle=worker.tasks == 0) if worker.tasks < self._held_by_one else None
            if task is None:
                return
            self._held[worker.actor.run.remote(task)] = worker, task
            self._copies[task.name] += 1
            worker.tasks += 1

    def _next(self, todo: Iterator[TaskOf], *, idle: bool) -> TaskOf | None:
        """Choose a task: one to be tried again, a new one, or for an idle worker one that another one has."""
        if self._again:
            return self._again.popleft()
        task = next(todo, None)
        if task is None:
            self._exhausted = True
            if idle and self._overtaking:
                held = (each for _, each in self._held.values() if self._copies[each.name] == 1)
                task = next((each for each in held if each.name not in self._finished), None)
        return task

    def _take(self, reference: Any) -> Iterator[tuple[TaskOf, Result | Exception]]:  # noqa: ANN401 - of Ray
        """Take a result, or see what became of it instead.

        Raises:
            RunStopped: The task was tried often enough.
        """
        worker, task = self._held.pop(reference)
        worker.tasks -= 1
        self._copies[task.name] -= 1
        outcome: list[Result | Exception] = []
        try:
            outcome.append(self._ray.get(reference))
        except self._ray.exceptions.RayTaskError as error:  # raised in a worker, which goes on
            cause = error.cause if isinstance(error.cause, Exception) else error
            if self._worth_another(cause):
                self._try_again(task, error)
            else:
                outcome.append(cause)
        except self._ray.exceptions.RayError as error:
            self._replace(worker)
            self._try_again(task, error)
        if outcome and task.name not in self._finished:
            self._finished.add(task.name)
            yield task, outcome[0]
        if not self._copies[task.name]:
            del self._copies[task.name]
            self._finished.discard(task.name)

    def _try_again(self, task: TaskOf, error: Exception) -> None:
        if task.name in self._finished or self._copies[task.name]:
            return
        self._retries += 1
        self._tries[task.name] += 1
        if self._tries[task.name] >= TRIES:
            msg = f"{TRIES} attempts at {task.name} failed, the last one with: {reason_of(error)}. {KEPT}"
            raise RunStopped(msg) from error
        self._again.append(task)

    def _replace(self, worker: _Worker) -> None:
        if worker in self._working:  # each task that it held says that it is lost
            self._working.remove(worker)
            self._ray.kill(worker.actor)
            self._hire()


def refused(error: Exception) -> bool:
    """Say whether an error is one of ours, which another attempt would not change."""
    return isinstance(error, WithholdError)
