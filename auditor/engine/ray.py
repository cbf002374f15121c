"""Content work on the nodes of a Ray cluster that is there already; imported for `--engine ray` alone.

A task travels as bytes and comes back as bytes, inline; nothing is put into the object store. Ray counts the deaths of
workers and nodes (`max_retries`), this module the nodes that cannot do a task: never both for one reason.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from auditor.errors import AuditorError, SourceError, UsageError
from auditor.text import listed, shown
from auditor.version import __version__

if TYPE_CHECKING:
    from auditor_schemas.codes import Cause

Task = TypeVar("Task")
Result = TypeVar("Result")

# A worker or node that dies in the middle; a task that always kills its worker ends after as many.
DEATHS = 3
_ANSWER_S = 15
_POLL_S = 0.1
_LOOK_S = 1.0  # between two looks at what the cluster has
_AHEAD = 2  # tasks under way for each slot
# A head that does not answer so long is gone: Ray itself ends the whole process after a minute, with exit code 1.
_GONE_S = 20
_NODELESS_S = 60  # without a node, before what is left is given up


class ElsewhereError(AuditorError):
    """What a node answered of a task is that it cannot do it; another one may."""


@dataclass
class _UnderWay(Generic[Task]):
    task: Task
    tried: dict[str, str] = field(default_factory=dict)  # nodes that could not, by id, in words
    code: Cause = "unreachable"  # why the last of them could not


class Cluster:
    """A connection to a Ray cluster, as a driver of it. `address` is host:port of its control service, or 'auto'.

    Raises UsageError where the extra, the token or a version is not as it has to be, SourceError where the cluster
    cannot be reached or has no node that may do anything, each within seconds and in one line.
    """

    def __init__(self, address: str) -> None:
        self._ray = _imported()
        self._handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
        self._connected = contextlib.ExitStack()
        _reach(address)
        _try(address)
        self._connected.enter_context(_quiet())
        try:
            self._ray.init(address=address, log_to_driver=False, configure_logging=False, namespace="auditor")
            self._address = self._ray.get_runtime_context().gcs_address
            self._restore()
            self._examine()
        except AuditorError:
            self.close()
            raise
        except BaseException as error:  # it raises SystemExit as well
            self.close()
            raise _refused(address, f"{type(error).__name__}: {error}") from None

    def close(self) -> None:
        """Leave the cluster, and give standard output back."""
        with self._connected:
            self._ray.shutdown()
        self._restore()

    @property
    def open_to_others(self) -> bool:
        """Whether it has no token, and is not this machine's alone."""
        return lets_in_others(os.environ, [node["NodeManagerAddress"] for node in self.nodes()])

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are alive and have a processor to give."""
        return [node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]

    def slots(self, nodes: Sequence[dict[str, Any]]) -> int:
        """How many tasks of a processor each may run at once on those."""
        return sum(int(node["Resources"]["CPU"]) for node in nodes)

    def stands(self) -> bool:
        """Whether its head still answers, which Ray itself waits a minute for."""
        host, _, port = self._address.rpartition(":")
        with contextlib.suppress(OSError):
            socket.create_connection((host, int(port)), timeout=_LOOK_S).close()
            return True
        return False

    def submit(self, call: Callable[[bytes], bytes], task: bytes, avoided: Sequence[str]) -> Any:
        """Begin a task on a node that is none of those."""
        options: dict[str, Any] = {"num_cpus": 1, "max_retries": DEATHS, "retry_exceptions": False, "name": "auditor"}
        if avoided:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(avoided)})"}
        return self._ray.remote(_there).options(**options).remote(call, task)

    def ended(self, under_way: Sequence[Any]) -> list[Any]:
        """Those that have come to an end, after a moment at most."""
        return list(self._ray.wait(list(under_way), num_returns=len(under_way), timeout=_POLL_S, fetch_local=False)[0])

    def answer(self, reference: Any) -> tuple[str, str, int, bytes]:
        """A node's id and name, how often it was begun before, and what it answered.

        Raises AuditorError for what ended without an answer.
        """
        errors = self._ray.exceptions
        try:
            found: tuple[str, str, int, bytes] = self._ray.get(reference)
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            told = f"killed its worker {DEATHS + 1} times ({type(error).__name__})"
            raise AuditorError(told, code="crashed") from None
        except errors.RayError as error:
            first = str(error).strip().partition("\n")[0][:200]
            raise AuditorError(f"{type(error).__name__}: {first}", code="unreadable") from None
        return found

    def cancel(self, under_way: Sequence[Any]) -> None:
        """End what is under way."""
        for reference in under_way:
            with contextlib.suppress(Exception):  # it has ended, or its node has
                self._ray.cancel(reference, force=True)

    def _restore(self) -> None:
        """Ray sets handlers of its own; ours say what an interruption means."""
        for each, handler in self._handlers.items():
            signal.signal(each, handler)

    def _examine(self) -> None:
        """Ask every node for the auditor: raises UsageError naming those that lack it or have another."""
        nodes = self.nodes()
        if not nodes:
            raise SourceError("the Ray cluster has no node with a processor to give", code="unreachable")

        def version() -> str:
            """Travels as it is: what a node lacks it cannot be asked for by name."""
            try:
                from auditor.version import __version__ as there
            except ImportError:
                return ""
            return there

        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        ask = self._ray.remote(version)
        asked = {
            ask.options(
                num_cpus=0, max_retries=0, scheduling_strategy=strategy(node["NodeID"], soft=False)
            ).remote(): node
            for node in nodes
        }
        ready, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_S)
        wrong = []
        for reference in ready:
            name = asked[reference]["NodeManagerAddress"]
            with contextlib.suppress(self._ray.exceptions.RayError):  # it died meanwhile, and gets nothing to do
                found = self._ray.get(reference)
                if found != __version__:
                    wrong.append(f"{name} has {f'auditor {shown(found)}' if found else 'no auditor'}")
        if wrong:
            raise UsageError(f"--engine ray: needs auditor {__version__} on every node; {listed(wrong, most=3)}")


class Ray(Generic[Task, Result]):
    """Runs tasks on a cluster: `call`, a function of an importable module, turns `packed(task)` into an answer there.

    `opened(task, answer)` makes a result of it, and raises ElsewhereError where the node could not do the task. `most`
    bounds the tasks at once.
    """

    def __init__(
        self,
        cluster: Cluster,
        call: Callable[[bytes], bytes],
        *,
        packed: Callable[[Task], bytes],
        opened: Callable[[Task, bytes], Result],
        size: Callable[[Task], int],
        finished: Callable[[Task, Result], None],
        failed: Callable[[Task, Exception], None],
        watch: Callable[[int], None],
        most: int | None = None,
    ) -> None:
        self.broken: Exception | None = None
        self._most = most
        self._cluster = cluster
        self._call = call
        self._packed = packed
        self._opened = opened
        self._size = size
        self._finished = finished
        self._failed = failed
        self._watch = watch
        self._under_way: dict[Any, _UnderWay[Task]] = {}
        self._nodes: list[dict[str, Any]] = []
        self._seen = 0.0  # when there was a node
        self._done = 0
        self.workers = self.nodes = self.retries = 0

    def run(self, tasks: Sequence[Task], meanwhile: Callable[[], None] | None = None) -> None:
        """Do every task, the first ones first, as many at once as the cluster has room for and as many again."""
        waiting = deque(_UnderWay(task) for task in tasks)
        beside, looked = meanwhile, self._look()
        try:
            while waiting or self._under_way:
                if time.monotonic() - looked > _LOOK_S and self._cluster.stands():
                    looked = self._look()
                    self._give_up(waiting)
                silent = time.monotonic() - looked
                if silent > _GONE_S:
                    self.broken = SourceError("the Ray cluster's head does not answer any more", code="unreachable")
                    return
                while (
                    waiting
                    and silent < _GONE_S / 2
                    and len(self._under_way) < (self._most or max(1, self.workers * _AHEAD))
                ):
                    self._begin(waiting.popleft())
                if beside is not None:
                    beside()
                    beside = None
                for reference in self._cluster.ended(list(self._under_way)) if self._under_way else ():
                    self._end(reference, waiting)
                self._watch(self._done)
        except BaseException:
            self._cluster.cancel(list(self._under_way))
            raise

    def _look(self) -> float:
        """What the cluster has now, and when that is."""
        self._nodes = self._cluster.nodes()
        slots, now = self._cluster.slots(self._nodes), time.monotonic()
        self.nodes, self.workers = len(self._nodes), slots if self._most is None else min(slots, self._most)
        self._seen = now if self._nodes else self._seen
        return now

    def _give_up(self, waiting: deque[_UnderWay[Task]]) -> None:
        """End what no node that is left may do, as Ray would wait for one for ever."""
        for reference, work in list(self._under_way.items()):
            if work.tried and not self._left(work):
                self._cluster.cancel([reference])
                del self._under_way[reference]
                waiting.appendleft(work)
        if not self._nodes and time.monotonic() - self._seen > _NODELESS_S:
            self._cluster.cancel(list(self._under_way))
            for work in [*self._under_way.values(), *waiting]:
                self._failed(work.task, AuditorError("the cluster has no node left", code=work.code))
            self._under_way.clear()
            waiting.clear()

    def _left(self, work: _UnderWay[Task]) -> bool:
        """Whether a node is left that has not tried it."""
        return any(node["NodeID"] not in work.tried for node in self._nodes)

    def _begin(self, work: _UnderWay[Task]) -> None:
        if work.tried and not self._left(work):
            told = f"no node could read it: {listed(list(work.tried.values()), most=3)}"
            self._failed(work.task, AuditorError(told, code=work.code))
            return
        reference = self._cluster.submit(self._call, self._packed(work.task), list(work.tried))
        self._under_way[reference] = work

    def _end(self, reference: Any, waiting: deque[_UnderWay[Task]]) -> None:
        work = self._under_way.pop(reference)
        try:
            node, name, before, answer = self._cluster.answer(reference)
            self.retries += before
            result = self._opened(work.task, answer)
        except ElsewhereError as error:
            work.tried[node], work.code = f"{name}: {error}", error.code
            self.retries += 1
            waiting.appendleft(work)
        except AuditorError as error:
            self._failed(work.task, error)
        else:
            self._done += self._size(work.task)
            self._finished(work.task, result)


def lets_in_others(environment: Mapping[str, str], addresses: Iterable[str]) -> bool:
    """Whether a cluster with nodes at these addresses asks for no token, and others than this machine may reach it."""
    return environment.get("RAY_AUTH_MODE") != "token" and not all(each.startswith("127.") for each in addresses)


def _there(call: Callable[[bytes], bytes], task: bytes) -> tuple[str, str, int, bytes]:
    """On a node: do a task; the node's id and address go along, and how often the task was begun before."""
    import ray
    from ray._private.worker import global_worker

    # Nothing public tells; a later Ray may not either, and then it is not told.
    core = getattr(global_worker, "core_worker", None)
    before = getattr(core, "get_current_task_attempt_number", int)()
    found = call(task)
    return ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address(), before, found  # type: ignore[no-untyped-call]  # ray


def _imported() -> Any:
    """Ray, told to tell nobody, as it reads its environment when it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")
    records = logging.getLogRecordFactory()
    try:
        with _quiet():
            import ray
            import ray.util.scheduling_strategies
    except ImportError:
        raise UsageError("--engine ray needs Ray: pip install 'checkpoint-auditor[ray]'") from None
    finally:
        logging.setLogRecordFactory(records)  # it gives every record of this process a field of its own
    return ray


def _reach(address: str) -> None:
    """Look whether anybody listens, which Ray itself waits minutes for. Raises SourceError."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_S / 3).close()
    except OSError as error:
        told = f"the Ray cluster at {shown(address)} cannot be reached: {error.strerror or error}"
        raise SourceError(told, code="unreachable") from None


def _try(address: str) -> None:
    """Connect in a process of its own first: Ray may wait for minutes, end the process, and fill the terminal."""
    program = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False); ray.shutdown()"
    words = [sys.executable, "-c", program, address]
    hasty = {**os.environ, "RAY_NUM_REDIS_GET_RETRIES": "2"}
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_ANSWER_S, env=hasty)  # noqa: S603  # our own
    except subprocess.TimeoutExpired:
        raise _refused(address, "it does not let this machine in within 15 s") from None
    if done.returncode:
        raise _refused(address, done.stderr)


def _refused(address: str, told: str) -> AuditorError:
    """An error of Ray's in a line of ours."""
    low = told.lower()
    where = "the Ray cluster of this machine" if address == "auto" else f"the Ray cluster at {shown(address)}"
    if "version mismatch" in low:
        lines = [line.strip() for line in told.splitlines() if "ray:" in line.lower() or "python:" in line.lower()]
        return UsageError(f"{where} has another version of Ray or Python: {shown(', '.join(lines)[:200])}")
    if "authenticat" in low or "token" in low:
        return UsageError(f"{where} refuses the token: set RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN here")
    if "could not find any running ray" in low:
        return SourceError(
            "no Ray cluster runs on this machine: name one, --engine ray://HOST:PORT", code="unreachable"
        )
    last = next((line.strip() for line in reversed(told.splitlines()) if line.strip()), told)
    return SourceError(f"{where} cannot be used: {shown(last[:200])}", code="unreachable")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Standard output is ours: what Ray prints there, and what it writes by itself, goes to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
