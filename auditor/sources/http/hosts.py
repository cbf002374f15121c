"""Which hosts may be asked, and how a connection to one is made: judged, verified, and through a proxy where one is.

A name is resolved once, and the address that was judged is the address connected to.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from auditor.errors import SourceError
from auditor.sources.http.wire import Wire
from auditor.text import shown

if TYPE_CHECKING:
    import ssl

SILENCE_S = 30.0  # without a byte
_CONNECT_S = 10.0


class Guard:
    """Which hosts may be asked. `hosts` None: those that the source names; `private` false: public addresses alone."""

    def __init__(self, hosts: frozenset[str] | None = None, *, private: bool = True) -> None:
        self.hosts = hosts
        self.private = private
        self._admitted: set[tuple[str, str]] = set()
        self._resolved: dict[tuple[str, int], list[Any]] = {}

    def admit(self, url: str) -> SplitResult:
        """The URL in parts; raises SourceError for one that must not be asked, in words that hold no secret."""
        parts = urlsplit(url)
        if (parts.scheme, parts.netloc) in self._admitted:
            return parts
        host = parts.hostname or ""
        try:
            _ = parts.port
        except ValueError:
            raise SourceError(f"{shown(host)}: not a port") from None
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
            raise SourceError(f"{shown(host)}: not https, and plain http is for loopback addresses alone")
        if self.hosts is not None and host not in self.hosts:
            raise SourceError(f"{shown(host)}: not on the list of allowed hosts")
        self._admitted.add((parts.scheme, parts.netloc))
        return parts

    def addresses(self, host: str, port: int) -> list[Any]:
        """Where to connect: what the name resolves to, if every address of it may be asked.

        Resolved once for all connections of an audit, until none of the addresses answers.
        """
        known = self._resolved.get((host, port))
        if known is not None:
            return known
        name = host.encode() if host.isascii() else host  # as bytes, no codec is imported for it
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        if not self.private:
            import ipaddress  # which the command does without

            for *_, address in found:
                if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global:
                    raise SourceError(f"{shown(host)}: leads to a private address, which is not allowed here")
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


def connected(guard: Guard, host: str, port: int) -> socket.socket:
    """A socket to the first address that answers; the address judged is the address connected to."""
    failure: OSError = OSError("no address")
    for family, kind, protocol, _, address in guard.addresses(host, port):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_CONNECT_S)
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(SILENCE_S)
            return connection
        except OSError as error:
            connection.close()
            failure = error
    guard.forget(host, port)
    raise failure


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
        raise SourceError("the proxy that the environment names is none for http:// connections")
    return parts


def tunnelled(proxy: SplitResult, host: str, port: int) -> socket.socket:
    """A connection to a host through a proxy, which sees what is encrypted for that host alone."""
    plain = connected(Guard(), proxy.hostname or "", proxy.port or 80)
    try:
        lines = [f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host}:{port}"]
        if proxy.username is not None:
            from base64 import b64encode

            user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
            lines.append(f"Proxy-Authorization: Basic {b64encode(user.encode()).decode()}")
        wire = Wire(plain)
        wire.ask("\r\n".join([*lines, "", ""]).encode("ascii"))
        if wire.status != 200:
            raise SourceError(f"the proxy that the environment names answers HTTP {wire.status}")
        return plain
    except BaseException:
        plain.close()
        raise


def verified() -> ssl.SSLContext:
    """Verifies certificates and names, against the system's authorities or those the environment names.

    Raises SourceError where the environment names a file that holds none.
    """
    import ssl  # plain loopback does without

    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        named = os.environ.get(variable)
        if named:
            try:
                return ssl.create_default_context(cafile=named)
            except OSError as error:  # absent, not to be read, or no certificates
                raise SourceError(f"{variable}={shown(named)}: no certificates can be read: {error.strerror}") from None
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:
        try:
            import certifi
        except ImportError:
            pass
        else:
            return ssl.create_default_context(cafile=certifi.where())
    return ssl.create_default_context()
