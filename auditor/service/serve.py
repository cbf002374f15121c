"""`auditor serve`: what one process of an installation runs, by its role, until it is told to stop."""

from __future__ import annotations

import _thread
import gc
import logging
import os
import signal
import socket
import threading
from shlex import quote
from types import FrameType
from typing import TYPE_CHECKING

from auditor.errors import UsageError
from auditor.service import logs, migrate
from auditor.service.hooks.duties import duties
from auditor.service.installation import Installation, Lock, open_installation
from auditor.service.notify.deliveries import announcing
from auditor.service.operate.retention import Retention
from auditor.service.worker import Worker
from auditor.sources.http.hosts import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.service.settings import Settings

_log = logging.getLogger(__name__)
_DRAIN_S = 4
_BACKLOG = 2048


def serve(settings: Settings, tell: Callable[[str], None], *, terminal: bool) -> int:
    """Run until SIGTERM or SIGINT; the exit code. `tell` says what a person has to know, on a `terminal` or in a log.

    Raises UsageError for what cannot be served.
    """
    logs.begin(settings.log_level)
    serving = f"role {settings.role} on {socket.gethostname()[:20]}, pid {os.getpid()}"
    installation = open_installation(settings, announce=announcing, serving=serving)
    stopped = threading.Event()
    heed_signals(stopped)
    lock = _lock(installation)
    try:
        if not installation.database.wait(tell, stopped):
            return 0
        migrate.apply(installation.database)
        if settings.role != "worker":
            _first_token(installation, tell, terminal)
        return _run(installation, tell, stopped)
    finally:
        installation.close()
        if lock is not None:
            lock.release()


def heed_signals(stopped: threading.Event) -> None:
    """Have SIGTERM and SIGINT set `stopped`."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: _set_beside(stopped))


def _set_beside(stopped: threading.Event) -> None:
    """Set it in another thread: a handler comes in between whatever the main thread does.

    While that holds the event's own lock, as at moments of waiting for it, the handler would wait for it for ever.
    """
    _thread.start_new_thread(stopped.set, ())


def _lock(installation: Installation) -> Lock | None:
    settings = installation.settings
    if not installation.database.sqlite:
        return None
    if settings.role != "all":
        raise UsageError(f"--role {settings.role} needs PostgreSQL: give --database postgresql://…")
    return Lock(settings.data)


def _first_token(installation: Installation, tell: Callable[[str], None], terminal: bool) -> None:
    """On loopback the first token is made and told once, on a terminal alone: a log keeps what it is told.

    Any other address needs tokens before it is listened at.
    """
    from auditor.service.access.tokens import Tokens

    settings, tokens = installation.settings, Tokens(installation.database)
    if tokens.every(most=1):
        return
    where = f" --data {quote(str(settings.data))}" if installation.database.sqlite else ""
    making = f"auditor service token create NAME --scope admin{where}"
    if not is_loopback(settings.host):
        raise UsageError(f"--host {settings.host}: others could reach it: first make a token: {making}")
    if not terminal:
        tell(f"nobody has a token yet: {making}")
    elif issued := tokens.first():
        tell(f"the first token, of scope admin, which is not told again: {issued.token}")


def _run(installation: Installation, tell: Callable[[str], None], stopped: threading.Event) -> int:
    settings = installation.settings
    worker = None
    if settings.role != "api":
        also = duties(installation, stopped)
        also["chores"] = (*also["chores"], Retention(installation))
        worker = Worker(installation, alone=installation.database.sqlite, **also)
        worker.start()
    try:
        if settings.role == "worker":
            _collect()
            tell(f"worker {worker.id if worker else ''} takes audits")
            _wait(stopped, worker)
        else:
            _answer(installation, tell, stopped, worker)
    finally:
        stopped.set()
        if worker is not None:
            worker.stop()
    return 3 if worker is not None and worker.lost.is_set() else 0


def _collect() -> None:
    """Collect garbage, which a command that ends soon does without; what is there now is none, and is passed over."""
    gc.freeze()
    gc.enable()


def _wait(stopped: threading.Event, worker: Worker | None) -> None:
    while not stopped.wait(0.5):
        if worker is not None and worker.lost.is_set():
            return


def _answer(
    installation: Installation, tell: Callable[[str], None], stopped: threading.Event, worker: Worker | None
) -> None:
    import uvicorn

    from auditor.service.web.app import create_app
    from auditor.service.web.protocol import Bounded

    settings = installation.settings

    class Server(uvicorn.Server):
        """Ends event streams before it waits for answers to be done."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            _set_beside(stopped)
            super().handle_exit(sig, frame)

    app = create_app(installation, stopped=stopped)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Bounded,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_DRAIN_S,
        backlog=_BACKLOG,
    )
    server = Server(config)
    threading.Thread(target=_end_with, args=(server, stopped, worker), daemon=True).start()
    with _listener(settings.host, settings.port) as listener:
        port = listener.getsockname()[1]
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        _collect()
        tell(f"serving at http://{host}:{port}")
        server.run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)  # whoever is told the address may connect at once
    except OSError as error:
        listener.close()
        raise UsageError(f"{host} port {port}: {error.strerror}: give another --host or --port") from None
    return listener


def _end_with(server: object, stopped: threading.Event, worker: Worker | None) -> None:
    """Have the server end when the worker is taken for lost, or when a signal came before it listened."""
    _wait(stopped, worker)
    server.should_exit = True  # type: ignore[attr-defined]  # uvicorn's own flag
