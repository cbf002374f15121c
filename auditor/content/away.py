"""A unit of work that another machine reads: all it needs to know as bytes, and its facts as bytes.

Both are MessagePack, compressed, as names repeat.
"""

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from auditor.content.asked import answers
from auditor.content.gpu import available
from auditor.content.plan import ShardPlan
from auditor.content.values import ShardValues, TensorValues
from auditor.engine.local import cores
from auditor.errors import AuditorError, ReadError, code_of
from auditor.private import PrivateFolder, cache_folder
from auditor.sources.entry import HERE
from auditor.text import shown
from auditor.version import __version__
from auditor_schemas.codes import Code

if TYPE_CHECKING:
    from auditor.content.device import Device

Message = TypeVar("Message")

_LARGEST = 256 << 20  # bytes that come out of those that travelled; a shard of 600,000 tensors has no more


class Opening(msgspec.Struct, frozen=True):
    """How a source is opened, as whoever gives the work opened it. No credentials: each machine has its own."""

    source: str
    revision: str | None = None
    symlinks: str = "follow"
    hosts: frozenset[str] | None = None
    private: bool = True
    roots: tuple[str, ...] | None = None


class Order(msgspec.Struct, frozen=True):
    """A unit to read, of a file with this stamp."""

    tool: str
    opening: Opening
    plan: ShardPlan
    stamp: str | None
    digests: bool
    device: Literal["cpu", "cuda"] = "cpu"


class Answer(msgspec.Struct, frozen=True):
    """What was read, on which device, or why it was not: `here` where it is for what this machine is, has or sees.

    `no_gpu`: a processor of this machine would read it.
    """

    values: ShardValues | None = None
    error: str = ""
    code: Code | None = None
    here: bool = False
    device: str = "cpu"
    no_gpu: bool = False


def packed(message: Order | Answer) -> bytes:
    """A message as it travels."""
    return zlib.compress(msgspec.msgpack.encode(message), 1)


def unpacked(data: bytes, kind: type[Message]) -> Message:
    """The message. Raises zlib.error or msgspec.DecodeError for what is none, or would be larger than any."""
    return msgspec.msgpack.decode(zlib.decompressobj().decompress(data, _LARGEST), type=kind)


def ordered(
    opening: Opening, plan: ShardPlan, stamp: str | None, *, digests: bool, device: Literal["cpu", "cuda"] = "cpu"
) -> bytes:
    """A unit of work; of a stamp only what means the same elsewhere."""
    known = None if stamp is None else stamp.partition(HERE)[0]
    return packed(Order(__version__, opening, plan, known, digests, device))


def answered(data: bytes, plan: ShardPlan, stamp_of: Callable[[str], str | None]) -> Answer:
    """An answer, of which the stamps are held against those that this machine sees, and replaced by them.

    Raises ReadError for one that is none, or of another unit or file.
    """
    try:
        answer = unpacked(data, Answer)
    except (msgspec.DecodeError, UnicodeError, RecursionError, zlib.error):
        raise ReadError(f"{plan.file}: what came back is no result", code="unreadable") from None
    values = answer.values
    if values is None:
        return answer
    if not answers(plan, values):
        raise ReadError(f"{plan.file}: what came back is of another unit", code="unreadable")
    seen = {}
    for file in {plan.file, *values.stamps}:
        own = stamp_of(file)
        if _portable(own) != _portable(values.stamps.get(file)):
            return _another(file, values.stamps.get(file), own)
        seen[file] = own
    return replace(answer, values=replace(values, tensors=_held_once(values, plan), stamps=seen))


def _held_once(values: ShardValues, plan: ShardPlan) -> tuple[TensorValues, ...]:
    """The same tensors; the names and shapes that this machine has already are not held again."""
    known = {part.name: part for part in plan.parts}
    found = ((each, known[each.name]) for each in values.tensors)
    return tuple(
        replace(each, name=part.name, file=plan.file, dtype=part.dtype, shape=part.shape) for each, part in found
    )


def read_away(data: bytes) -> bytes:
    """On another machine: read what an order says. Never raises for what can be said in an answer."""
    try:
        order = unpacked(data, Order)
        if order.tool != __version__:
            return _said(f"has auditor {__version__}, not {order.tool}", None)
        answer = _read(order) if order.device == "cpu" else _read_on_gpu(order)
    except ImportError as error:
        return _said(f"lacks {error.name}: pip install 'checkpoint-auditor[content]'", None)
    except AuditorError as error:
        return _said(str(error), "not_found" if error.code == "nothing" else code_of(error))
    except MemoryError:
        return _said("is out of memory", "out_of_memory")
    return packed(answer)


def _read(order: Order) -> Answer:
    reader = _reader(order.opening, order.digests, order.device)
    file = order.plan.file
    stamp = reader.source.stamp(file)
    if stamp is None:  # nothing lists its files: known is one that was asked for
        reader.source.entry(file)
        stamp = reader.source.stamp(file)
    if stamp is not None and order.stamp is not None and _portable(stamp) != order.stamp:
        return _another(file, stamp, order.stamp)
    return Answer(reader.read(order.plan), device=reader.device.name)


def _read_on_gpu(order: Order) -> Answer:
    reason = available().reason
    if not reason:
        try:
            return _read(order)
        except (AuditorError, ImportError, MemoryError):
            raise
        except Exception as error:  # an edge: drivers, compilers and torch fail in ways of their own
            first = str(error).strip().partition("\n")[0][:200]
            reason = f"the GPU cannot be used: {type(error).__name__}: {first}"
    return Answer(error=reason, here=True, no_gpu=True)


def _said(what: str, code: Code | None) -> bytes:
    return packed(Answer(error=what, code=code, here=True))


def _another(file: str, there: str | None, known: str | None) -> Answer:
    """That a file is not the one whose header was read, and what tells: its size, or else its time or ETag."""
    if there is None or known is None:
        return Answer(error=f"sees another {file}, or no version of it", code="changed", here=True)
    (size, _, mark), (own, _, other) = ((_portable(each) or "").partition(":") for each in (there, known))
    told = f"of time or ETag {mark} and not {other}" if size == own else f"of {size} bytes and not {own}"
    return Answer(error=f"sees another {file}, {shown(told[:200])}", code="changed", here=True)


def _portable(stamp: str | None) -> str | None:
    return None if stamp is None else stamp.partition(HERE)[0]


@contextmanager
def _alone_here() -> Iterator[None]:
    """Of the processes of a machine one at a time: the first one compiles, and the others take what it has kept."""
    where = cache_folder("kernels")
    with ExitStack() as held:
        if where is not None:
            # Where there is no place for a lock there is none for kernels either: each process compiles its own.
            with suppress(OSError, ImportError):
                import fcntl

                PrivateFolder(where)
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                descriptor = os.open(Path(where) / "lock", flags, 0o600)
                fcntl.flock(held.enter_context(open(descriptor, "wb")), fcntl.LOCK_EX)
        yield


def compile_kernels() -> None:
    """On another machine: have kernels there, so that no unit waits for them."""
    from auditor.content.kernels.needed import prepare_audit

    with _alone_here():
        prepare_audit()


@cache
def _reader(opening: Opening, digests: bool, kind: Literal["cpu", "cuda"]) -> Any:
    """This process's reader of a source, with its kernels.

    Of GPUs the process sees the one that it was given a share of.
    """
    from auditor.content.cpu import CpuDevice, slab_bytes
    from auditor.content.shard import ShardReader
    from auditor.sources import open_source

    compile_kernels()
    device: Device = CpuDevice(slab_bytes(cores()))  # whose other processors have workers too
    if kind == "cuda":
        from auditor.content.cuda.device import CudaDevice

        device = CudaDevice()
    source = open_source(
        opening.source,
        symlinks=opening.symlinks,  # type: ignore[arg-type]  # as it was given
        revision=opening.revision,
        hosts=opening.hosts,
        private=opening.private,
        roots=opening.roots,
    )
    return ShardReader(source, device, digests=digests, tick=lambda _: None)
