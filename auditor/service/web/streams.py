"""Who waits for an audit to change is told by one thread that looks for all of them together."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi.sse import format_sse_event
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from auditor.service.access.rates import TooManyError
from auditor.service.access.tokens import Tokens
from auditor.service.audits import lookup
from auditor.service.store.database import Database, away
from auditor.service.store.tables import FINAL
from auditor.service.web.models import audit_of

_LOOK_S = 0.25
_PLACES_S = 5.0
_HEARTBEAT_S = 15.0
_JUDGED_S = 15.0
_AGAIN_S = 10
# So many are told at once; then what else is to be answered has its turn.
_AT_ONCE = 20
_BETWEEN_S = 0.005
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class News:
    """An audit as it is now; `event` is made once for all, with the API's JSON."""

    version: int
    place: int | None
    final: bool
    event: bytes


class Watching:
    """One who waits for news of an audit, in the loop that made it. A slow one misses what came between."""

    def __init__(self, watch: Watch, caller: str, token: str, audit: str, seen: int) -> None:
        self.caller = caller
        self.token = token
        self.audit = audit
        self.seen = seen
        self._place: int | None = None
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._news: News | None = None
        self._ended = False

    async def next(self, seconds: float) -> News | None:
        """The news, or None where there is none within so many seconds."""
        try:
            await asyncio.wait_for(self._woken.wait(), seconds)
        except TimeoutError:
            return None
        self._woken.clear()
        news, self._news = self._news, None
        return news

    @property
    def ended(self) -> bool:
        """Whether no more will come: the audit is gone, the token no longer good, or the service stops."""
        return self._ended and self._news is None

    async def final(self, seconds: float) -> bool:
        """Wait for a final state; whether it came in time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self.ended:
            news = await self.next(left)
            if news is not None and news.final:
                return True
        return False

    async def events(self) -> AsyncIterator[bytes]:
        """Server-sent events: `audit` with each change, the last one final; comments while nothing changes."""
        yield format_sse_event(comment="audit", retry=2000)
        while not self.ended:
            news = await self.next(_HEARTBEAT_S)
            if news is not None:
                yield news.event
                if news.final:
                    return
            elif not self.ended:
                yield format_sse_event(comment="")

    def close(self) -> None:
        """Wait no longer."""
        self._watch.close(self)

    def tell(self, news: News | None) -> None:
        """From the thread that looks: news, if they are any to this one, or that no more will come."""
        if news is not None:
            if (self.seen, self._place) == (news.version, news.place) and not news.final:
                return
            self.seen, self._place = news.version, news.place
        try:
            self._loop.call_soon_threadsafe(self._take, news)
        except RuntimeError:
            pass  # the loop is closed, and whoever waited in it gone

    def _take(self, news: News | None) -> None:
        if news is None:
            self._ended = True
        else:
            self._news = news
        self._woken.set()


class Watch:
    """Looks at the audits that somebody waits for, four times a second while there is one, and at their tokens.

    `together` and `each` bound how many wait at once, in all and for one caller.
    """

    def __init__(
        self, database: Database, tokens: Tokens, stopped: threading.Event, *, together: int, each: int
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._stopped = stopped
        self._together = together
        self._each = each
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Watching]] = {}
        self._callers: Counter[str] = Counter()
        self._placed_at = self._judged_at = time.monotonic()
        self._looking = False

    def open(self, caller: str, audit: str, *, token: str = "", seen: int = 0) -> Watching:
        """Begin to wait for a version other than the one that was seen, as long as the token is good, if there is one.

        Raises TooManyError.
        """
        with self._lock:
            if self._callers.total() >= self._together or self._callers[caller] >= self._each:
                raise TooManyError(_AGAIN_S)
            watching = Watching(self, caller, token, audit, seen)
            self._callers[caller] += 1
            self._waiting.setdefault(audit, []).append(watching)
            if not self._looking:
                self._looking = True
                threading.Thread(target=self._look, name="auditor-watch", daemon=True).start()
        return watching

    def close(self, watching: Watching) -> None:
        """End a wait."""
        with self._lock:
            those = self._waiting.get(watching.audit, [])
            if watching in those:
                those.remove(watching)
                self._callers[watching.caller] -= 1
                if not self._callers[watching.caller]:
                    del self._callers[watching.caller]
                if not those:
                    del self._waiting[watching.audit]

    @property
    def open_count(self) -> int:
        """How many wait."""
        return self._callers.total()

    def _look(self) -> None:
        """Look until nobody waits, or the service stops."""
        while not self._stopped.wait(_LOOK_S):
            with self._lock:
                if not self._waiting:
                    self._looking = False
                    return
                waiting = {audit: list(those) for audit, those in self._waiting.items()}
            try:
                self._judge(waiting)
                self._tell(waiting)
            except SQLAlchemyError as error:
                if not away(error):
                    _log.exception("streams are not told")
            except Exception:  # an edge: who waits is told with the next look
                _log.exception("streams are not told")
        with self._lock:
            for those in self._waiting.values():
                for each in those:
                    each.tell(None)
            self._looking = False

    def _judge(self, waiting: dict[str, list[Watching]]) -> None:
        """End what waits by a token that is no longer good."""
        if time.monotonic() - self._judged_at < _JUDGED_S:
            return
        self._judged_at = time.monotonic()
        every = [each for those in waiting.values() for each in those if each.token]
        good = {token for token in {each.token for each in every} if self._tokens.holder(token) is not None}
        for each in every:
            if each.token not in good:
                each.tell(None)

    def _tell(self, waiting: dict[str, list[Watching]]) -> None:
        placing = time.monotonic() - self._placed_at >= _PLACES_S
        if placing:
            self._placed_at = time.monotonic()
        told: list[tuple[Watching, News | None]] = []
        with self._database.read() as connection:
            versions = lookup.versions(connection, list(waiting))
            for audit, those in waiting.items():
                version, state = versions.get(audit, (0, ""))
                late = [
                    each for each in those if each.seen != version or state in FINAL or (placing and state == "queued")
                ]
                news = self._news(connection, audit) if late else None
                told.extend((each, news) for each in late)
        for begin in range(0, len(told), _AT_ONCE):
            for each, news in told[begin : begin + _AT_ONCE]:
                each.tell(news)
            time.sleep(_BETWEEN_S)

    def _news(self, connection: Connection, audit: str) -> News | None:
        row = lookup.audit(connection, audit)
        if row is None:
            return None
        place = lookup.place(connection, row)
        text = audit_of(row, place).model_dump_json()
        event = format_sse_event(event="audit", data_str=text, id=str(row.version))
        return News(row.version, place, row.state in FINAL, event)
