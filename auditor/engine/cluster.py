"""The connection to a Ray cluster that is there already: its nodes, and tasks that it is given.

A task travels as bytes and comes back as bytes, inline: in several pieces, as what is above 100 KB goes through the
object store, and a large shard's facts are more.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from auditor.engine.connect import ANSWER_S, end_of, imported, quiet, reach, refused, try_to_connect
from auditor.errors import AuditorError, SourceError, UsageError
from auditor.text import listed, shown
from auditor.version import __version__

# A worker or node that dies in the middle; a task that always kills its worker ends after as many.
DEATHS = 3
_POLL_S = 0.1
LOOK_S = 1.0  # between two looks at what the cluster has
_LEAVE_S = 3  # to take leave of a head
_LEAST_S = 3  # for nodes to answer, however long it took to be let in; a worker begins in one or two
_FIRST_S = 120  # for what nodes do before their first task
_PIECES, _PIECE_BYTES = 4, 90_000


class Cluster:
    """A connection to a Ray cluster, as a driver of it. `address` is host:port of its control service, or 'auto'.

    `kinds` are what tasks may run on, `cpu` for a processor, `cuda` for a processor and `gpu_share` of a GPU: on a node
    with GPUs these, on another one that, if it is among them.
    Raises UsageError where the extra, the token or a version is not as it has to be, SourceError where the cluster
    cannot be reached or has no node that may do anything, each within seconds and in one line.
    """

    def __init__(self, address: str, kinds: Sequence[str] = ("cpu",), gpu_share: float = 1.0) -> None:
        self.kinds = tuple(kinds)
        self._gpu_share = gpu_share
        self._ray = imported()
        self._there = self._ray.remote(_there)
        self._pieces: dict[Any, list[Any]] = {}  # of an answer, by the reference that stands for it
        self.modes: set[str | None] = set()  # here and on the nodes: who has a token may come in without one
        self._handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
        self._connected = contextlib.ExitStack()
        self._known: list[dict[str, Any]] = []
        self._asking: threading.Thread | None = None
        self._answered = False
        self._deadline = time.monotonic() + ANSWER_S
        reach(address)
        try_to_connect(address)
        self._connected.enter_context(quiet())
        try:
            # Workers would import from the folder that this process is in, which may be a checkpoint's, before any
            # other; they do not for a job that came by Ray's client.
            job = self._ray.job_config.JobConfig(_client_job=True)
            self._ray.init(
                address=address, log_to_driver=False, configure_logging=False, namespace="auditor", job_config=job
            )
            self._address = self._ray.get_runtime_context().gcs_address
            self.modes.add(os.environ.get("RAY_AUTH_MODE"))  # Ray sets it for a cluster of this machine and its token
            self._restore()
            self._known = self._ray.nodes()
            self._examine()
        except (AuditorError, KeyboardInterrupt):
            self.close()
            raise
        except BaseException as error:  # it raises SystemExit as well
            self.close()
            raise refused(address, f"{type(error).__name__}: {error}") from None

    def close(self) -> None:
        """Leave the cluster, and give standard output back."""
        leaving = threading.Thread(target=self._ray.shutdown, daemon=True)
        with self._connected:
            leaving.start()
            leaving.join(_LEAVE_S)
        if leaving.is_alive():  # it waits for a head that hangs, and would again when the process ends
            atexit.unregister(self._ray.shutdown)
        self._restore()

    @property
    def open_to_others(self) -> bool:
        """Whether it has no token, and is not this machine's alone."""
        return lets_in_others(self.modes, [node["NodeManagerAddress"] for node in self.nodes()])

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are alive and have a processor to give, as its head said last."""
        return [node for node in self._known if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]

    def places(self, without: Collection[str] = ()) -> dict[str, dict[str, int]]:
        """How many tasks of each kind may run at once on which nodes, by id; GPUs of those `without` are none."""
        found: dict[str, dict[str, int]] = {kind: {} for kind in self.kinds}
        for node in self.nodes():
            processors, gpus = int(node["Resources"]["CPU"]), node["Resources"].get("GPU", 0)
            at_once = min(processors, int(gpus / self._gpu_share + 1e-9))
            if "cuda" in found and at_once and node["NodeID"] not in without:
                found["cuda"][node["NodeID"]] = at_once
            elif "cpu" in found:
                found["cpu"][node["NodeID"]] = processors
        return found

    def stands(self) -> bool:
        """Whether its head still answers within a moment; Ray itself waits for it, and no interruption gets through."""
        if self._asking is None or not self._asking.is_alive():
            self._answered = False
            self._asking = threading.Thread(target=self._ask_head, daemon=True)
            self._asking.start()
        self._asking.join(LOOK_S)
        return self._answered and not self._asking.is_alive()

    def _ask_head(self) -> None:
        """Ask what nodes there are."""
        with contextlib.suppress(OSError, self._ray.exceptions.RayError):
            socket.create_connection(end_of(self._address), timeout=LOOK_S).close()
            self._known = self._ray.nodes()
            self._answered = True

    def submit(self, call: Callable[[bytes], bytes], task: bytes, kind: str, avoided: Collection[str]) -> Any:
        """Begin a task of a kind on a node that is none of those; what stands for its answer."""
        options: dict[str, Any] = {"num_cpus": 1, "max_retries": DEATHS, "retry_exceptions": False, "name": "auditor"}
        options["num_returns"] = 1 + _PIECES
        # What waits for a processor then waits at its node. By default it waits at the head, which takes up to 0.1 s to
        # see that one is free: at each node's first task, and whenever Ray gives a worker back, after half a second.
        options["scheduling_strategy"] = "SPREAD"
        if kind == "cuda":
            options["num_gpus"] = self._gpu_share
        if avoided:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(avoided)})"}
        reference, *pieces = self._there.options(**options).remote(call, task)
        self._pieces[reference] = pieces
        return reference

    def ended(self, under_way: Sequence[Any]) -> list[Any]:
        """Those that have come to an end: at once where there are some, else after a moment."""
        if not under_way:
            time.sleep(_POLL_S)
            return []
        if not self._ray.wait(list(under_way), num_returns=1, timeout=_POLL_S, fetch_local=False)[0]:
            return []
        return list(self._ray.wait(list(under_way), num_returns=len(under_way), timeout=0, fetch_local=False)[0])

    def answer(self, reference: Any) -> tuple[str, str, int, bytes]:
        """A node's id and name, how often it was begun before, and what it answered.

        Raises AuditorError for what ended without an answer.
        """
        errors = self._ray.exceptions
        try:
            (node, name, before), *pieces = self._ray.get([reference, *self._pieces.pop(reference)])
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            told = f"killed its worker {DEATHS + 1} times ({type(error).__name__})"
            raise AuditorError(told, code="crashed") from None
        except errors.RayError as error:
            first = str(error).strip().partition("\n")[0][:200]
            raise AuditorError(f"{type(error).__name__}: {first}", code="unreadable") from None
        return node, name, before, b"".join(pieces)

    def cancel(self, under_way: Sequence[Any]) -> None:
        """End what is under way."""
        for reference in under_way:
            self._pieces.pop(reference, None)
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
        if not any(self.places().values()):
            raise SourceError(
                f"--device cuda: the Ray cluster has no node with {self._gpu_share:g} of a GPU to give",
                code="unreachable",
            )

        def version() -> tuple[str, str | None]:
            """Travels as it is: what a node lacks it cannot be asked for by name. With it, whether it wants a token."""
            mode = os.environ.get("RAY_AUTH_MODE")
            try:
                from auditor.version import __version__ as there
            except ImportError:
                return "", mode
            return there, mode

        asked = self._ask(version, nodes)
        left = max(_LEAST_S, self._deadline - time.monotonic())
        ready, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=left)
        wrong = []
        for reference in ready:
            name = asked[reference]["NodeManagerAddress"]
            with contextlib.suppress(self._ray.exceptions.RayError):  # it died meanwhile, and gets nothing to do
                found, mode = self._ray.get(reference)
                self.modes.add(mode)
                if found != __version__:
                    wrong.append(f"{name} has {f'auditor {shown(found)}' if found else 'no auditor'}")
        if wrong:
            raise UsageError(f"--engine ray: needs auditor {__version__} on every node; {listed(wrong, most=3)}")

    def _ask(self, call: Callable[[], object], nodes: Sequence[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
        """Have each of these nodes do something that takes no processor from tasks; the nodes by what they answer."""
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        ask = self._ray.remote(call)
        return {
            ask.options(
                num_cpus=0, max_retries=0, scheduling_strategy=strategy(node["NodeID"], soft=False)
            ).remote(): node
            for node in nodes
        }

    def everywhere(self, call: Callable[[], object], waiting: Callable[[], None] = lambda: None) -> None:
        """Have each node do something before its first task; what fails or takes minutes is left to the tasks to say.

        `waiting` is called where it takes longer than a moment.
        """
        asked = list(self._ask(call, self.nodes()))
        _, left = self._ray.wait(asked, num_returns=len(asked), timeout=LOOK_S)
        if left:
            waiting()
            self._ray.wait(left, num_returns=len(left), timeout=_FIRST_S)


def lets_in_others(modes: Iterable[str | None], addresses: Iterable[str]) -> bool:
    """Whether a cluster with nodes at these addresses asks for no token, and others than this machine may reach it."""
    return any((mode or "").lower() != "token" for mode in modes) and not all(
        each.startswith("127.") for each in addresses
    )


def _there(call: Callable[[bytes], bytes], task: bytes) -> tuple[tuple[str, str, int], *tuple[bytes, ...]]:
    """On a node: do a task; the node's id and address go along, how often the task was begun before, and the answer."""
    import ray
    from ray._private.worker import global_worker

    # Nothing public tells; a later Ray may not either, and then it is not told.
    core = getattr(global_worker, "core_worker", None)
    before = getattr(core, "get_current_task_attempt_number", int)()
    answer = memoryview(call(task))
    cuts = [number * _PIECE_BYTES for number in range(_PIECES)]
    pieces = [bytes(answer[begin:end]) for begin, end in zip(cuts, [*cuts[1:], None], strict=True)]
    return (ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address(), before), *pieces  # type: ignore[no-untyped-call]  # Ray types none
