"""A worker: runs jobs, shows that it lives, watches its attempts, and takes over from workers that are lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from auditor.service.audits.attempt import Attempts
from auditor.service.audits.order import CONTENT, HEADERS
from auditor.service.audits.turns import ATTEMPT
from auditor.service.audits.workers import BEAT_S, SWEEP_S, Presence, Sweep, WorkerLostError, new_worker
from auditor.service.installation import Installation
from auditor.service.jobs import Queue, Step, work
from auditor.service.store.database import away

_log = logging.getLogger(__name__)
_WATCH_S = 1.0


class Worker:
    """One start of a worker. `kinds` are further jobs and their steps, `chores` what is done as often as a sweep."""

    def __init__(
        self,
        installation: Installation,
        *,
        alone: bool,
        kinds: dict[str, Sequence[Step]] | None = None,
        queues: Sequence[Queue] = (),
        chores: Sequence[Callable[[], object]] = (),
    ) -> None:
        self.id = new_worker()
        self._installation = installation
        self._alone = alone
        self._chores = chores
        database, audits = installation.database, installation.audits
        self._presence = Presence(database, self.id)
        self._sweep = Sweep(database, installation.recovery, installation.jobs, self.id)
        self._attempts = Attempts(audits, installation.reports, installation.settings, self.id)
        self._stopped = threading.Event()
        self.lost = threading.Event()
        self._threads: list[threading.Thread] = []
        steps = (self._attempts.begin, self._attempts.examine, self._attempts.conclude)
        self._kinds: dict[str, Sequence[Step]] = {ATTEMPT: steps, **(kinds or {})}
        settings = installation.settings
        self._queues = [
            Queue(name=name, each=kind.each, together=kind.together, group=settings.sources.per_host, poll_s=poll_s)
            for name, kind, poll_s in ((HEADERS, settings.headers, 0.4), (CONTENT, settings.content, 1.0))
            if kind.each
        ] + list(queues)
        self._end_work: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin; what lost workers had begun is queued again before the first job runs here."""
        self._presence.enter()
        if self._alone:
            self._sweep.alone()
        self._installation.recovery.adopt()
        self._end_work = work(self._installation.database, self.id, self._kinds, self._queues)
        for name, pause, act in (
            ("beat", BEAT_S, self._presence.beat),
            ("watch", _WATCH_S, self._attempts.watch),
            ("sweep", SWEEP_S, self._look),
            *(("chore", SWEEP_S, each) for each in self._chores),  # each by itself, so that none keeps others waiting
        ):
            thread = threading.Thread(target=self._every, args=(pause, act), name=f"auditor-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Begin nothing more, end every process, hand back what was being tried."""
        self._stopped.set()
        self._attempts.stop()
        for each in self._threads:
            each.join(2)
        if not self.lost.is_set():
            self._leave()
        if self._end_work is not None:
            self._end_work()

    def _leave(self) -> None:
        try:
            handed = self._installation.recovery.hand_back(self.id)
            self._presence.leave()
        except Exception as error:
            if not away(error):
                raise
            _log.warning("the database does not answer: others will take this worker for lost")
        else:
            _log.info("stopped", extra={"worker": self.id, "handed_back": handed})

    def _look(self) -> None:
        for worker in self._sweep.look():
            _log.warning("worker lost", extra={"worker": worker})

    def _every(self, pause: float, act: Callable[[], object]) -> None:
        while not self._stopped.wait(pause):
            try:
                act()
            except WorkerLostError:
                _log.error("this worker was taken for lost, and ends", extra={"worker": self.id})
                self._attempts.stop()
                self.lost.set()
                return
            except Exception as error:  # an edge: a thread that ends would leave its work undone without a word
                if away(error):
                    _log.warning("the database does not answer: %s", type(error).__name__)
                else:
                    _log.exception("a chore of the worker failed")
