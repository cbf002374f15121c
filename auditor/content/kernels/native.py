"""The kernels as machine code: loaded from a cache that is this user's alone, or compiled now and kept there.

To compile takes numba some ten seconds; to load what it made takes llvmlite alone, which spares every other audit half
a second of imports. What is kept is named by all that it follows from: the sources, llvmlite and this processor. What
was compiled is proven before it is used or kept.
"""

import ctypes
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

from auditor.content import Preparing
from auditor.errors import UsageError
from auditor.private import PrivateFolder, cache_folder

# What each entry takes: `n` a whole number, and addresses of elements, written as numpy writes their types.
SIGNATURES = {
    "reduce_strip": "u1* n n n n n n i1* u1* i1* u1* u1* n n*",
    "judge_strip": "u1* n n n n n n i1* u1* f4* n n n f4* n* n* n* f8* u1*",
    "weigh": "n n n n* u1* n n n n n n n n i1* u1* i1* u1* u1* n f4* n n n f4* n* n* n* f8* u1* n*",
    "zeros_at_end": "u1* n n*",
    "survey": "u4* n n n n* n* n*",
    "sweep_1": "u1* n i1* u1* u1* n n n*",
    "sweep_2": "u2* n i2* u2* u2* n n n*",
    "sweep_4": "u4* n i4* u4* u4* n n n*",
    "explain_1": "u1* n n n n n*",
    "explain_2": "u2* n n n n n*",
    "explain_4": "u4* n n n n n*",
    "alike_1": "u1* n n n*",
    "alike_2": "u2* n n n*",
    "alike_4": "u4* n n n*",
    "alike_8": "u8* n n n*",
}
PREFIX = "auditor_"  # of the entries' names in machine code
KNOWN_NUMBA = ("0.62", "0.68")  # the first and the last version whose kernels were proven

_SOURCES = ("native.py", "entries.py", "reduce.py", "roundtrip.py", "straight.py")
_MAGIC = b"auditor-kernels 1\n"
_LARGEST, _BOUND = 4 << 20, 32 << 20  # bytes of one file, and of all

Entry = Callable[..., None]
_lock = threading.Lock()
_loaded: dict[str, Entry] = {}
_engines: list[llvm.ExecutionEngine] = []  # the code lives as long as they do


def entry(name: str) -> Entry:
    """One entry of the kernels. It holds no lock while it runs."""
    prepare()
    return _loaded[name]


def prepare(told: Preparing | None = None) -> None:
    """Have the kernels loaded; where they are to be compiled first, `told` is given the reason to wait.

    Raises UsageError where what numba compiles cannot be used.
    """
    with _lock:
        if not _loaded:
            where, name = cache_folder("kernels"), _name()
            folder = PrivateFolder(where, _MAGIC, largest=_LARGEST, bound=_BOUND) if where is not None else None
            code = folder.read(name) if folder is not None else None
            _loaded.update(load(made(folder, name, told=told) if code is None else code))


def preadv2() -> int:
    """Where the system's preadv2 stands, 0 where there is none, or words are not as `weigh` has them."""
    function = getattr(ctypes.CDLL(None), "preadv2", None) if ctypes.sizeof(ctypes.c_void_p) == 8 else None
    return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0


def target_machine() -> llvm.TargetMachine:
    """This processor, as LLVM's compiler and linker want it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="default",
        codemodel="jitdefault",
        jit=True,
    )


def _compiled() -> bytes:
    from auditor.content.kernels.entries import compiled

    return compiled()


def made(
    folder: PrivateFolder | None,
    name: str,
    *,
    told: Preparing | None = None,
    compiled: Callable[[], bytes] = _compiled,
) -> bytes:
    """An object file with the entries: compiled now, proven, and kept under its name where that can be.

    Raises UsageError where it cannot be compiled or fails its proof.
    """
    if told is not None:
        keeps = folder is not None and folder.usable()
        told(f"compiling kernels{' once for this processor' if keeps else ', with no place to keep them'}")
    try:
        from auditor.content.kernels.proof import prove

        code = compiled()
        prove(code)
    except Exception as error:  # an edge: numba and LLVM fail in ways of their own
        from importlib.metadata import version

        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        known = f"{KNOWN_NUMBA[0]} to {KNOWN_NUMBA[1]}"
        raise UsageError(
            f"numba {version('numba')} makes no kernels that can be used: {reason} (known to work: numba {known})"
        ) from error
    if folder is not None:
        folder.write(name, code)
        folder.trim()
    return code


def _name() -> str:
    here = Path(__file__)
    digest = hashlib.sha256()
    for part in (llvmlite.__version__, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()):
        digest.update(part.encode() + b"\0")
    for source in _SOURCES:
        digest.update(here.with_name(source).read_bytes() + b"\0")
    return digest.hexdigest()


def load(code: bytes) -> dict[str, Entry]:
    """The entries of an object file by name, to be called from now on."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return {
        name: _callable(name, engine.get_function_address(PREFIX + name), signature)
        for name, signature in SIGNATURES.items()
    }


def _callable(name: str, address: int, signature: str) -> Entry:
    """numba's own convention: addresses for a result and an exception, the arguments, and a status."""
    kinds = [ctypes.c_int64 if kind == "n" else ctypes.c_void_p for kind in signature.split()]
    call = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *kinds)(address)
    unused = (ctypes.c_void_p * 2)()  # entries return nothing, and what they raise has nobody to tell it
    result = ctypes.addressof(unused)
    exception = result + ctypes.sizeof(ctypes.c_void_p)

    def run(*given: int) -> None:
        if call(result, exception, *given):
            raise RuntimeError(f"the kernel {name} failed")

    run.unused = unused  # type: ignore[attr-defined]  # kept as long as its addresses are in use
    return run
