"""Who asks, and whether they may: by a bearer token, or by the session cookie of somebody who signed in with one."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from auditor.service.access.rates import neighbourhood
from auditor.service.access.tokens import Holder, Scope, held
from auditor.service.logs import note
from auditor.service.settings import Settings
from auditor.service.web.problems import ForbiddenProblem, UnauthorizedProblem
from auditor.service.web.state import State, state_of

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_NOBODY = Holder("", "", held(("read",)))
_TOKEN = "token"  # noqa: S105  # the key of a session under which the id of its token is


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the token's id and name, both empty where reading is public and nobody has shown one."""

    id: str
    name: str
    scopes: frozenset[str]
    address: str

    @property
    def known_as(self) -> str:
        """Whose requests and streams these are, where they are counted."""
        return self.id or neighbourhood(self.address)

    def may(self, scope: Scope) -> bool:
        """Whether their scopes hold this one."""
        return scope in self.scopes


def cookie_name(settings: Settings) -> str:
    """The session cookie's; browsers take the prefix over TLS alone."""
    return "__Host-auditor" if is_tls(settings) else "auditor"


def is_tls(settings: Settings) -> bool:
    """Whether people reach the service over TLS."""
    return (settings.public_url or "").startswith("https://")


def sign_in(request: Request, token: str) -> bool:
    """Begin a session for whoever shows a good token; False where it is none."""
    state = state_of(request)
    holder = state.tokens.judge(token)
    if holder is None:
        state.rates.count("refusals", neighbourhood(_address(request)))
        return False
    request.session.clear()
    request.session[_TOKEN] = holder.id
    return True


def sign_out(request: Request) -> None:
    """End the session."""
    request.session.clear()


def visitor(request: Request) -> Caller | None:
    """Who asks, whatever they may; None for nobody. Raises the problem of a token that is not good."""
    holder = _holder(request, state_of(request))
    return None if holder is None else Caller(holder.id, holder.name, holder.scopes, _address(request))


def refuse_other_sites(request: Request) -> None:
    """Raise the problem of a request that another site has a browser send. Forms have to ask this of each post."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site != "same-origin":
            raise ForbiddenProblem("another site asked")
        return
    origin = request.headers.get("origin")
    ours = {_origin(str(request.base_url)), _origin(state_of(request).installation.settings.public_url or "")}
    if origin is None or origin not in ours:
        raise ForbiddenProblem("with a session, such a request needs Sec-Fetch-Site: same-origin or our Origin")


def admitted(request: Request, scope: Scope) -> Caller:
    """Who asks, whose scopes hold this one. Raises the problems of those who may not, TooManyError."""
    state = state_of(request)
    holder = _holder(request, state)
    if holder is None:
        if not (scope == "read" and state.installation.settings.web.public_read):
            raise UnauthorizedProblem
        holder = _NOBODY
    caller = Caller(holder.id, holder.name, holder.scopes, _address(request))
    state.rates.count("reads" if request.method in _SAFE else "writes", caller.known_as)
    if not caller.may(scope):
        raise ForbiddenProblem(f"it needs the scope {scope}")
    return caller


def _holder(request: Request, state: State) -> Holder | None:
    given = request.headers.get("authorization")
    if given is not None:
        scheme, _, token = given.partition(" ")
        holder = state.tokens.judge(token.strip()) if scheme.lower() == "bearer" else None
        if holder is None:
            state.rates.count("refusals", neighbourhood(_address(request)))
            raise UnauthorizedProblem
    else:
        id = request.session.get(_TOKEN)  # noqa: A001  # the token's
        if not isinstance(id, str):
            return None
        if request.method not in _SAFE:
            refuse_other_sites(request)
        holder = state.tokens.holder(id)
    if holder is not None:
        note(request.scope, token=holder.id)
    return holder


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _reader(request: Request) -> Caller:
    return admitted(request, "read")


def _submitter(request: Request) -> Caller:
    return admitted(request, "submit")


def _admin(request: Request) -> Caller:
    return admitted(request, "admin")


Reader = Annotated[Caller, Depends(_reader)]
Submitter = Annotated[Caller, Depends(_submitter)]
Admin = Annotated[Caller, Depends(_admin)]
