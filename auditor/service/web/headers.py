"""Headers of every answer: nothing is run, framed, sniffed or kept, unless the answer itself says so."""

import base64
import hashlib
from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # A form of ours has to be known as ours by its Origin, which `no-referrer` would take away.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
_HSTS = "max-age=31536000"


class SecurityHeaders:
    """Adds to each answer those of the headers that it does not have; over TLS also that it be kept to."""

    def __init__(self, app: ASGIApp, *, tls: bool) -> None:
        self._app = app
        self._headers = SECURITY | ({"Strict-Transport-Security": _HSTS} if tls else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, secured)


def content_policy(
    *, styles: Iterable[str] = (), scripts: Iterable[str] = (), images: bool = False, connects: bool = False
) -> str:
    """The policy of a page of ours: these blocks alone, by their hashes; forms, images, streams of this origin."""
    own = "'self'"
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hashes(styles)}",
            f"script-src {_hashes(scripts)}",
            f"img-src {own if images else _NONE}",
            f"connect-src {own if connects else _NONE}",
            f"form-action {own}",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


_NONE = "'none'"


def _hashes(blocks: Iterable[str]) -> str:
    digests = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in blocks]
    return " ".join(f"'sha256-{each}'" for each in digests) or _NONE
