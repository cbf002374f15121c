"""What tests of the API share: the application over each database behind a real server, and tokens of each scope."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from auditor.service.access.tokens import Scope
from auditor.service.installation import Installation
from auditor.service.web.app import create_app
from auditor.service.web.protocol import Bounded
from auditor.service.web.state import State


@dataclass
class Service:
    """An application on loopback, and clients of it by what their token may."""

    app: FastAPI
    installation: Installation
    stopped: threading.Event
    port: int = 0
    _clients: list[httpx.Client] = field(default_factory=list)

    @property
    def state(self) -> State:
        return self.app.state.auditor

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, *scopes: Scope, **headers: str | bytes) -> httpx.Client:
        given = {name.encode(): each if isinstance(each, bytes) else each.encode() for name, each in headers.items()}
        if scopes:
            given[b"Authorization"] = f"Bearer {self.state.tokens.create('test', scopes).token}".encode()
        client = httpx.Client(base_url=self.url, headers=given, timeout=30, verify=False)
        self._clients.append(client)
        return client

    def start(self) -> uvicorn.Server:
        config = uvicorn.Config(
            self.app,
            host="127.0.0.1",
            port=0,
            http=Bounded,
            log_level="warning",
            proxy_headers=False,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        self.thread = threading.Thread(target=server.run, daemon=True)
        self.thread.start()
        until = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < until, "the server does not start"
            time.sleep(0.01)
        self.port = server.servers[0].sockets[0].getsockname()[1]
        return server

    def close(self, server: uvicorn.Server) -> None:
        self.stopped.set()
        for each in self._clients:
            each.close()
        server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def service(installation: Installation) -> Iterator[Service]:
    """The application over an installation; no worker runs."""
    stopped = threading.Event()
    served = Service(create_app(installation, stopped=stopped), installation, stopped)
    server = served.start()
    yield served
    served.close(server)
