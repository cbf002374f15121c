"""Which hosts may be asked, at which addresses, and through which proxy. A name is resolved once."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any
from urllib.parse import SplitResult, urlsplit

from auditor.errors import SourceError
from auditor.text import shown


class Guard:
    """Which hosts may be asked. `hosts` None: those that the source names; `private` false: public addresses alone."""

    def __init__(self, hosts: frozenset[str] | None = None, *, private: bool = True) -> None:
        self.hosts = hosts
        self.private = private
        self._lock = threading.Lock()
        self._resolved: dict[tuple[str, int], list[Any]] = {}

    def admit(self, url: str) -> SplitResult:
        """The URL in parts; raises SourceError for one that must not be asked, in words that hold no secret."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        try:
            _ = parts.port
        except ValueError:
            raise SourceError(f"{shown(host)}: not a port", code="not_allowed") from None
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
            told = "not https, and plain http is for loopback addresses alone"
            raise SourceError(f"{shown(host)}: {told}", code="not_allowed")
        if self.hosts is not None and host not in self.hosts:
            raise SourceError(f"{shown(host)}: not on the list of allowed hosts", code="not_allowed")
        return parts

    def addresses(self, host: str, port: int) -> list[Any]:
        """Where to connect: what the name resolves to, if every address of it may be asked.

        Resolved once for all connections of an audit, until none of the addresses answers.
        """
        with self._lock:  # all who come at once wait for the first
            known = self._resolved.get((host, port))
            if known is not None:
                return known
            name = host.encode() if host.isascii() else host  # as bytes, no codec is imported for it
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
            if not self.private:
                import ipaddress  # which the command does without

                for *_, address in found:
                    if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global:
                        told = "leads to a private address, which is not allowed here"
                        raise SourceError(f"{shown(host)}: {told}", code="not_allowed")
            self._resolved[host, port] = found
            return found

    def forget(self, host: str, port: int) -> None:
        """Resolve a name anew when it is asked for again."""
        self._resolved.pop((host, port), None)


def is_loopback(host: str) -> bool:
    """Whether a host's spelling is this machine's own."""
    if host == "localhost":
        return True
    family, loopback = (socket.AF_INET6, b"\0" * 15 + b"\1") if ":" in host else (socket.AF_INET, b"\x7f")
    try:
        return socket.inet_pton(family, host).startswith(loopback)
    except (OSError, ValueError):
        return False


def proxy_for(host: str) -> SplitResult | None:
    """The proxy that the environment names for a host, if it does."""
    if not any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
        return None
    from urllib.request import getproxies_environment, proxy_bypass

    proxies = getproxies_environment()
    named = proxies.get("https") or proxies.get("all")
    if named is None or is_loopback(host) or proxy_bypass(host):
        return None
    parts = urlsplit(named if "://" in named else f"http://{named}")
    if parts.scheme != "http" or not parts.hostname:
        raise SourceError("the proxy that the environment names is none for http:// connections", code="unreachable")
    return parts
