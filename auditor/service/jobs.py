"""Jobs, kept by DBOS in the same database as the rows: the one module that imports it.

A job is a row of DBOS's, added in the transaction that adds or changes our own row, so that neither is there without
the other. Which of our rows is what decides: a job that comes late or twice finds its row gone on, and ends.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig
from dbos import error as errors
from sqlalchemy import Connection

from auditor.service.store.database import Database

APPLICATION = "auditor"
# What a job's steps are, and what they hand each other. A new number has `Recovery.adopt` carry unfinished jobs over.
VERSION = "1"
_AT_ONCE = 500

Step = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be done: `kind` names the steps, `arguments` are handed to each of them.

    `group` is what a queue's limit for each group counts; lower `priority` comes first.
    """

    id: str
    kind: str
    arguments: tuple[str | int, ...]
    queue: str
    group: str
    priority: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Limits on the jobs of a queue that run at once: for each worker, in all, and for each group."""

    name: str
    each: int
    together: int | None = None
    group: int | None = None
    poll_s: float = 0.25


class Jobs:
    """Adds jobs, ends them, and runs them where this process is a worker."""

    def __init__(self, database: Database) -> None:
        """The tables of DBOS have to be there: see `migrate`."""
        self._client = DBOSClient(
            system_database_engine=database.engine,
            application_name=APPLICATION,
            retry_connection_errors=False,
            lazy=True,
        )

    def add(self, connection: Connection, job: Job) -> None:
        """Add a job within the caller's transaction."""
        self._client.enqueue_in_transaction(
            connection,
            {
                "workflow_name": job.kind,
                "queue_name": job.queue,
                "workflow_id": job.id,
                "app_version": VERSION,
                "priority": job.priority,
                "queue_partition_key": job.group,
            },
            *job.arguments,
        )

    def end(self, ids: Iterable[str]) -> None:
        """Take jobs out of their queue; those that run go on until they see that their row is no longer theirs."""
        every = list(ids)
        if every:
            self._client.cancel_workflows(every)

    def forget(self, ids: Iterable[str]) -> None:
        """Remove all that is kept about jobs."""
        every = list(ids)
        if every:
            self._client.delete_workflows(every)

    def forget_ended(self, before_ms: int) -> int:
        """Remove all that is kept about some jobs that ended before a time of the database's clock; how many."""
        found = self._client.list_workflows(
            status=["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"],
            completed_before=datetime.fromtimestamp(before_ms / 1000, UTC).isoformat(),
            limit=_AT_ONCE,
            load_input=False,
            load_output=False,
        )
        self.forget(each.workflow_id for each in found)
        return len(found)

    def held_by(self, workers: Sequence[str]) -> list[str]:
        """The jobs that workers had begun and not ended."""
        if not workers:
            return []
        found = self._client.list_workflows(
            status="PENDING", executor_id=list(workers), load_input=False, load_output=False
        )
        return [each.workflow_id for each in found]

    def alive(self, ids: Sequence[str]) -> set[str]:
        """Those of the jobs that wait or run, and that this version's workers take."""
        if not ids:
            return set()
        found = self._client.list_workflows(
            workflow_ids=list(ids),
            status=["ENQUEUED", "DELAYED", "PENDING"],
            app_version=VERSION,
            load_input=False,
            load_output=False,
        )
        return {each.workflow_id for each in found}

    def close(self) -> None:
        """Let go of the database."""
        self._client.destroy()


def migrate(url: str) -> None:
    """Make DBOS's tables, or bring them up to date."""
    DBOS.migrate(url)


def work(
    database: Database, worker: str, kinds: dict[str, Sequence[Step]], queues: Sequence[Queue]
) -> Callable[[], None]:
    """Begin to run jobs in threads of this process, as `worker`; what is returned ends that.

    A job of a kind runs its steps in order, each with the job's arguments and what the step before gave; a job ends
    where a step gives None.
    """
    logging.getLogger("dbos").addFilter(_unexpected)
    DBOS(config=_config(database, worker))
    for kind, steps in kinds.items():
        DBOS.workflow(name=kind, max_recovery_attempts=None)(_chain(tuple(steps)))
    DBOS.listen_queues([each.name for each in queues])
    DBOS.launch()
    for each in queues:
        DBOS.register_queue(
            each.name,
            worker_concurrency=each.each,
            global_concurrency=each.together,
            partition_concurrency=each.group,
            polling_interval_sec=each.poll_s,
            on_conflict="always_update",
        )
    return lambda: DBOS.destroy(workflow_completion_timeout_sec=0)


def _chain(steps: tuple[Step, ...]) -> Callable[..., None]:
    def run(*arguments: str | int) -> None:
        value: Any = ()
        for step in steps:
            given = arguments if value == () else (*arguments, value)
            value = DBOS.run_step({"name": step.__name__}, step, *given)
            if value is None:
                return

    return run


def _unexpected(record: logging.LogRecord) -> bool:
    """Whether a record of DBOS's tells news: that a job was ended while it ran is none to whoever ended it."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, errors.DBOSAwaitedWorkflowCancelledError | errors.DBOSWorkflowCancelledError)


def _config(database: Database, worker: str) -> DBOSConfig:
    return {
        "name": APPLICATION,
        "system_database_engine": database.engine,
        "application_version": VERSION,
        "executor_id": worker,
        "log_level": "WARNING",
        "use_listen_notify": False,
        "run_migrations": False,
        "enable_otlp": False,
        "max_executor_threads": 64,
        "scheduler_polling_interval_sec": 3600.0,
    }
