"""Content work on the nodes of a Ray cluster; imported for `--engine ray` alone.

Ray counts the deaths of workers and nodes (`max_retries`), this module the nodes that cannot do a task: never both for
one reason.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from auditor.engine.cluster import DEATHS, LOOK_S, Cluster
from auditor.errors import AuditorError, SourceError
from auditor.text import listed

if TYPE_CHECKING:
    from auditor_schemas.codes import Cause

Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 2  # tasks under way for each slot
# A head that does not answer so long is gone: Ray itself ends the whole process after a minute, with exit code 1.
_GONE_S = 20
_NODELESS_S = 60  # without a node, before what is left is given up


class ElsewhereError(AuditorError):
    """What a node answered of a task is that it cannot do it; another one may."""


class NoGpuError(ElsewhereError):
    """What a node answered of a task is that the GPU which it has for Ray is none that computes."""


@dataclass
class _UnderWay(Generic[Task]):
    task: Task
    tried: dict[str, str] = field(default_factory=dict)  # nodes that could not, by id, in words
    code: Cause = "unreachable"  # why the last of them could not
    kind: str = ""  # of what it runs on
    errors: int = 0  # of what it ended with, and no node is known to be the reason


class Ray(Generic[Task, Result]):
    """Runs tasks on a cluster: `call`, a function of an importable module, turns a packed task into an answer there.

    `packed(task, kind)` is what it needs to run on a processor or a GPU; `opened(task, node, answer)` makes a result of
    the answer, and raises ElsewhereError where the node could not do the task. `told` is given a line where something
    is not as the cluster says. `most` bounds the tasks at once.
    """

    def __init__(
        self,
        cluster: Cluster,
        call: Callable[[bytes], bytes],
        *,
        packed: Callable[[Task, Any], bytes],
        opened: Callable[[Task, str, bytes], Result],
        size: Callable[[Task], int],
        finished: Callable[[Task, Result], None],
        failed: Callable[[Task, Exception], None],
        watch: Callable[[int], None],
        told: Callable[[str], None] = lambda _: None,
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
        self._told = told
        self._places: dict[str, dict[str, int]] = {}
        self._without: set[str] = set()  # nodes whose GPU is none
        self._under_way: dict[Any, _UnderWay[Task]] = {}
        self._seen = 0.0  # when there was a node
        self._done = 0
        self.workers = self.nodes = self.retries = 0

    def run(self, tasks: Sequence[Task], meanwhile: Callable[[], None] | None = None) -> None:
        """Do every task, the first ones first, as many at once as the cluster has room for and as many again."""
        waiting = deque(_UnderWay(task) for task in tasks)
        beside, looked = meanwhile, self._look(waiting)
        try:
            while waiting or self._under_way:
                if time.monotonic() - looked > LOOK_S and self._cluster.stands():
                    looked = self._look(waiting)
                silent = time.monotonic() - looked
                if silent > _GONE_S:
                    self.broken = SourceError("the Ray cluster's head does not answer any more", code="unreachable")
                    return
                if silent < _GONE_S / 2:
                    self._begin(waiting)
                if beside is not None:
                    beside()
                    beside = None
                for reference in self._cluster.ended(list(self._under_way)):
                    self._end(reference, waiting)
                self._watch(self._done)
        except BaseException:
            self._cluster.cancel(list(self._under_way))
            raise

    def _look(self, waiting: deque[_UnderWay[Task]]) -> float:
        """What the cluster has now, and when that is; what no node is left for has to wait no longer."""
        now = time.monotonic()
        self._places = self._cluster.places(self._without)
        alive = {node for nodes in self._places.values() for node in nodes}
        slots = sum(sum(nodes.values()) for nodes in self._places.values())
        self.nodes, self.workers = len(alive), slots if self._most is None else min(slots, self._most)
        self._seen = now if alive else self._seen
        # Ray would wait for a node for ever.
        for reference, work in list(self._under_way.items()):
            able = self._places[work.kind].keys() | (self._without & alive if work.kind == "cuda" else set())
            if (alive or work.tried) and able <= work.tried.keys():
                self._cluster.cancel([reference])
                waiting.appendleft(self._under_way.pop(reference))
        if now - self._seen > _NODELESS_S:
            self._cluster.cancel(list(self._under_way))
            for work in [*self._under_way.values(), *waiting]:
                self._failed(work.task, AuditorError("the cluster has no node left", code=work.code))
            self._under_way.clear()
            waiting.clear()
        return now

    def _begin(self, waiting: deque[_UnderWay[Task]]) -> None:
        """Begin tasks, as long as there is room for the next one."""
        under_way = Counter(work.kind for work in self._under_way.values())
        while waiting and (self._most is None or len(self._under_way) < self._most):
            work = waiting[0]
            kinds = [kind for kind, nodes in self._places.items() if nodes.keys() - work.tried.keys()]
            if not kinds and not work.tried:
                return
            if not kinds:
                told = f"no node could read it: {listed(list(work.tried.values()), most=3)}"
                self._failed(waiting.popleft().task, AuditorError(told, code=work.code))
                continue
            free = (kind for kind in kinds if under_way[kind] < _AHEAD * sum(self._places[kind].values()))
            kind = next(free, None)
            if kind is None:
                return
            waiting.popleft()
            work.kind = kind
            under_way[kind] += 1
            others = {node for other, nodes in self._places.items() if other != kind for node in nodes}
            avoided = sorted(work.tried.keys() | others)
            self._under_way[self._cluster.submit(self._call, self._packed(work.task, kind), kind, avoided)] = work

    def _end(self, reference: Any, waiting: deque[_UnderWay[Task]]) -> None:
        work = self._under_way.pop(reference)
        node = name = ""
        try:
            node, name, before, answer = self._cluster.answer(reference)
            self.retries += before
            result = self._opened(work.task, name, answer)
        except ElsewhereError as error:
            self._elsewhere(work, node, name, error)
            waiting.appendleft(work)
        except AuditorError as error:
            work.errors += 1
            if node or error.code == "crashed" or work.errors > DEATHS:
                self._failed(work.task, error)
            else:
                self.retries += 1
                waiting.appendleft(work)
        else:
            self._done += self._size(work.task)
            self._finished(work.task, result)

    def _elsewhere(self, work: _UnderWay[Task], node: str, name: str, error: ElsewhereError) -> None:
        """Note why a node could not do a task."""
        self.retries += 1
        if not isinstance(error, NoGpuError) or "cpu" not in self._cluster.kinds:
            work.tried[node], work.code = f"{name}: {error}", error.code
        elif node not in self._without:
            self._without.add(node)
            self._places = self._cluster.places(self._without)
            self._told(f"node {name} has a GPU for Ray that cannot be used, and its processors read: {error}")
