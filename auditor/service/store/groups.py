"""Small transactions of many threads: those that wait for the one connection that writes are committed together."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection

# So many hold up whatever else is to be written for a fifth of a second; then that has its turn.
_MOST = 50
_PAUSE_S = 0.001
_T = TypeVar("_T")
_Asked = tuple[Callable[[Connection], Any], Future[Any]]


class Groups:
    """Transactions in groups: a commit waits as long for one row as for fifty.

    `begin` begins one, and `away` says of an error that it is everybody's.
    """

    def __init__(
        self, begin: Callable[[], AbstractContextManager[Connection]], away: Callable[[BaseException], bool]
    ) -> None:
        self._begin = begin
        self._away = away
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def write(self, act: Callable[[Connection], _T]) -> _T:
        """What `act` gives within a transaction, once that is committed. It may be called again for that.

        Raises what it raises, or the database's errors; then nothing of it is there.
        """
        answer: Future[_T] = Future()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="auditor-groups", daemon=True)
                self._thread.start()
            self._asked.put((act, answer))
        return answer.result()

    def close(self) -> None:
        """Write what was asked for, and end the thread."""
        with self._lock:
            if self._thread is not None:
                self._asked.put(None)
                self._thread.join()
                self._thread = None

    def _serve(self) -> None:
        asked = self._asked.get()
        while asked is not None:
            group = [asked]
            while len(group) < _MOST and not self._asked.empty() and (asked := self._asked.get()) is not None:
                group.append(asked)
            self._commit(group)
            time.sleep(_PAUSE_S)
            if asked is not None:
                asked = self._asked.get()

    def _commit(self, group: list[_Asked]) -> None:
        try:
            with self._begin() as connection:
                given = [act(connection) for act, _ in group]
        except Exception as error:  # an edge: it is told to whoever asked
            # The database's absence is everybody's; any other failure is one's own, so each is done by itself.
            for act, answer in group:
                if len(group) == 1 or self._away(error):
                    answer.set_exception(error)
                else:
                    self._commit([(act, answer)])
            return
        for (_, answer), value in zip(group, given, strict=True):
            answer.set_result(value)
