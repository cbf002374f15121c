"""What the endpoints of one application share."""

import threading
from dataclasses import dataclass

from anyio import CapacityLimiter
from fastapi import Request

from auditor.service.access.keys import CURSORS, Cursors, key
from auditor.service.access.rates import Rates
from auditor.service.access.tokens import Tokens
from auditor.service.installation import Installation
from auditor.service.store.database import Database
from auditor.service.web.readiness import Readiness
from auditor.service.web.shelf import Shelf
from auditor.service.web.streams import Watch

_RENDERED = 32 << 20  # bytes of pages and other formats that one process keeps


@dataclass(frozen=True, slots=True)
class State:
    """An installation as the API and the pages see it. `stopped` is set when the service begins to end."""

    installation: Installation
    tokens: Tokens
    cursors: Cursors
    rates: Rates
    watch: Watch
    readiness: Readiness
    # So many reports are rendered at once; the rest wait without a thread.
    renders: CapacityLimiter
    rendered: Shelf
    stopped: threading.Event

    @property
    def database(self) -> Database:
        """Where rows are."""
        return self.installation.database


def state_for(installation: Installation, stopped: threading.Event) -> State:
    """The state of a new application; the schema has to be there."""
    web = installation.settings.web
    tokens = Tokens(installation.database)
    return State(
        installation=installation,
        tokens=tokens,
        cursors=Cursors(key(installation.database, CURSORS)),
        rates=Rates(reads=web.reads, writes=web.writes, refusals=web.refusals),
        watch=Watch(installation.database, tokens, stopped, together=web.streams, each=web.streams_each),
        readiness=Readiness(installation),
        renders=CapacityLimiter(2),
        rendered=Shelf(_RENDERED),
        stopped=stopped,
    )


def state_of(request: Request) -> State:
    """The state of the application that a request came to."""
    state: State = request.app.state.auditor
    return state
