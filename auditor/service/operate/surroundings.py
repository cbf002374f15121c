"""What an installation stands on: environment, folders, disk, packages, limits, credentials, hosts."""

import os
import resource
import shutil
import socket
import ssl
import stat
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from auditor.private import doubt
from auditor.service import settings as given
from auditor.service.settings import Settings, files
from auditor.text import nearest, shown

Found = tuple[Literal["ok", "note", "wrong"], str]

_LEAST_FREE, _LEAST_SHARE = 1 << 30, 0.05
_NETWORKED = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs", "ceph", "lustre"}
_HOST_S = 5.0
_CREDENTIALS = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"),
    "az": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_SECRET", "AZURE_STORAGE_ACCOUNT_NAME"),
}


def environment() -> Iterator[Found]:
    """Variables that are no settings, those that Kubernetes sets, and secrets that others may read."""
    unknown = given.unknown_variables()
    for each in unknown:
        near = nearest(each.removeprefix(given.PREFIX).lower(), Settings.model_fields)
        yield "wrong", f"{each} is no setting{near or ':'} unset it"
    linked = os.environ.get("AUDITOR_PORT", "").startswith("tcp://")
    if linked:
        yield "wrong", "Kubernetes sets AUDITOR_SERVICE_HOST for a Service called auditor: enableServiceLinks: false"
    open_ = list(_readable())
    for file in open_:
        yield "wrong", f"{shown(file)} holds secrets and everybody may read it: chmod 600"
    if not (unknown or linked or open_):
        yield "ok", "every variable is a setting"


def _readable() -> Iterator[str]:
    places = [os.environ.get(files.CONFIG, "")]
    if folder := os.environ.get(files.SECRETS):
        places += [str(each) for each in Path(folder).iterdir() if each.is_file() and not each.name.startswith(".")]
    for place in places:
        if place and Path(place).stat().st_mode & stat.S_IROTH and (place != places[0] or _has_secret(place)):
            yield place


def _has_secret(file: str) -> bool:
    text = Path(file).read_text(encoding="utf-8", errors="replace")
    return any(line.split("=")[0].strip().strip('"') in ("database", "secret") for line in text.splitlines())


def stranger(data: Path) -> bool:
    """Whether the data folder is another user's than this process's."""
    return data.exists() and data.stat().st_uid != os.geteuid()


def folder(data: Path) -> Iterator[Found]:
    """Whose the data folder is, and who else may come by it."""
    place = shown(str(data))
    if not data.exists():
        yield "wrong", f"{place} is not there: `auditor serve` makes it, or give --data"
        return
    status = data.stat()
    if stranger(data):
        yield "wrong", f"{place} belongs to user {status.st_uid}, and this is {os.geteuid()}: run this as that user"
    elif status.st_mode & 0o077:
        yield "wrong", f"{place} has mode {stat.S_IMODE(status.st_mode):o}, so that others may look into it: chmod 700"
    elif (reason := doubt(data)) is not None:
        yield "wrong", f"{reason}: others could put another folder in its place"
    elif not os.access(data, os.W_OK | os.X_OK):
        yield "wrong", f"{place} cannot be written to: is it mounted read-only?"
    else:
        yield "ok", f"{place}, for this user alone"


def disk(settings: Settings) -> Iterator[Found]:
    """How much is free where data, reports and work are."""
    places = {settings.data} | (
        {Path(settings.reports)} if settings.reports and "://" not in settings.reports else set()
    )
    for place in sorted(each for each in places if each.exists()):
        usage = shutil.disk_usage(place)
        said = f"{usage.free / (1 << 30):,.1f} GiB free of {usage.total / (1 << 30):,.1f} at {shown(str(place))}"
        if usage.free < _LEAST_FREE or usage.free < _LEAST_SHARE * usage.total:
            yield "wrong", f"{said}: free some, or keep less by [retention]"
        else:
            yield "ok", said


def packages(settings: Settings) -> Iterator[Found]:
    """What the settings need that is not installed."""
    needed: dict[str, str] = {}
    if settings.content.each:
        needed |= dict.fromkeys(("numpy", "numba", "xxhash"), "content, or content.each = 0")
    if settings.sources.buckets or "://" in (settings.reports or ""):
        needed["obstore"] = "stores"
    if "huggingface.co" in settings.sources.hosts:
        needed["huggingface_hub"] = "stores"
    lacks = {name: extra for name, extra in needed.items() if find_spec(name) is None}
    for name, extra in lacks.items():
        yield "wrong", f"{name} is not installed: needs the extra {extra}"
    if not lacks:
        yield "ok", "all that the settings need"


def limits(settings: Settings) -> Iterator[Found]:
    """Open files and memory, against what the settings let attempts have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < settings.open_files:
        yield "wrong", f"at most {hard:,} open files, open_files is {settings.open_files:,}: raise LimitNOFILE"
    both = (settings.headers, settings.content)
    together, there = sum(each.each * each.memory for each in both), _memory()
    said = f"attempts may take {together / (1 << 30):,.0f} GiB together, of {there / (1 << 30):,.0f}"
    if together > there:
        yield "note", f"{said}: lower headers.memory, content.memory or how many run at once"
    else:
        yield "ok", said


def _memory() -> int:
    """This machine's memory, or what its control group leaves of it."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(there, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return there


def credentials(settings: Settings) -> Iterator[Found]:
    """Whether the environment has any for the stores that are allowed; values are not looked at."""
    places = (*settings.sources.buckets, settings.reports or "")
    for scheme, names in _CREDENTIALS.items():
        if not any(each.startswith(f"{scheme}://") for each in places):
            continue
        found = next((name for name in names if os.environ.get(name)), None)
        if found is None:
            yield "note", f"none for {scheme}:// in the environment ({names[0]}, …): the machine's role has to open it"
        else:
            yield "ok", f"{scheme}:// by {found}"


def network_file_system(path: Path) -> str | None:
    """The kind of a file system that is another machine's, or None."""
    best, kind = "", ""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        _, mounted, name, *_ = line.split(" ")
        if Path(mounted) in (path, *path.parents) and len(mounted) >= len(best):
            best, kind = mounted, name
    return kind if kind in _NETWORKED else None


def hosts(names: Iterable[str]) -> Iterator[Found]:
    """Whether hosts take a TLS connection; nothing is asked of them."""
    for name in names:
        host, _, port = name.partition(":")
        try:
            with (
                socket.create_connection((host, int(port or 443)), timeout=_HOST_S) as plain,
                ssl.create_default_context().wrap_socket(plain, server_hostname=host),
            ):
                yield "ok", shown(name)
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or str(error)
            yield (
                "wrong",
                f"{shown(name)}: {said}: look at DNS, the firewall and the proxy, or drop it from sources.hosts",
            )
