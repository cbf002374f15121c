"""Which hosts may be asked, at which addresses, and through which proxy. A name is resolved once."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any
from urllib.parse import SplitResult, urlsplit

from auditor.errors import SourceError
from auditor.text import shown

_NAT64 = 0x0064FF9B << 64  # 64:ff9b::/96, without its last 32 bits
_NAT64_LOCAL = 0x0064FF9B0001  # 64:ff9b:1::/48, which leads wherever this network says


class Guard:
    """Which hosts may be asked. `hosts` None: those that the source names; `private` false: public addresses alone."""

    def __init__(self, hosts: frozenset[str] | None = None, *, private: bool = True) -> None:
        self.hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
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
                for *_, address in found:
                    if not is_public(str(address[0])):
                        told = "leads to a private address, which is not allowed here"
                        raise SourceError(f"{shown(host)}: {told}", code="not_allowed")
            self._resolved[host, port] = found
            return found

    def forget(self, host: str, port: int) -> None:
        """Resolve a name anew when it is asked for again."""
        self._resolved.pop((host, port), None)


def is_public(address: str) -> bool:
    """Whether an address is one of the internet's, and so is every IPv4 address that it stands for."""
    import ipaddress  # which the command does without

    found = ipaddress.ip_address(address.partition("%")[0])
    if not found.is_global or found.is_multicast:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return True
    inner = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
    if int(found) >> 80 == _NAT64_LOCAL:
        return False
    if int(found) >> 32 in (_NAT64, 0):
        inner.append(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
    return all(is_public(str(each)) for each in inner if each is not None)


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
