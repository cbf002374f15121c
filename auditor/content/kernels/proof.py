"""Proves machine code before it is used: every entry of the kernels, on a few numbers whose answers are known.

How numba's functions are called is numba's own to change, and code that is called another way writes wherever it likes.
So they are tried in a process of their own, which may crash. It takes some 0.2 s, without importing numba or numpy.
"""

import ctypes
import subprocess
import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from auditor.content.kernels.native import SIGNATURES, Entry, load

_PATIENCE_S = 60.0
_TRY = "import sys; sys.path[:] = sys.argv[1:]; from auditor.content.kernels.proof import main; main()"
_TYPES = {"u1": "B", "i1": "b", "u2": "H", "i2": "h", "u4": "I", "i4": "i", "u8": "Q", "n": "q", "f4": "f", "f8": "d"}


class Elements(NamedTuple):
    """What an address leads to, before the call and after it; `after` is None of scratch space."""

    before: Sequence[float]
    after: Sequence[float] | None


class Trial(NamedTuple):
    """One call of an entry, with what its signature asks for."""

    name: str
    given: tuple[int | Elements, ...]


def prove(code: bytes, *, patience_s: float = _PATIENCE_S) -> None:
    """Try an object file's entries in another process. Raises RuntimeError, in one line, where one fails."""
    command = [sys.executable, "-P", "-c", _TRY, *sys.path]
    try:
        done = subprocess.run(command, input=code, capture_output=True, timeout=patience_s)  # noqa: S603  # ourselves
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{_last(error.stdout)} does not end") from error
    if done.returncode < 0:
        raise RuntimeError(f"{_last(done.stdout)} crashes (signal {-done.returncode})")
    if done.returncode != 0 or _last(done.stdout) != "proven":
        raise RuntimeError(_last(done.stderr).removeprefix("RuntimeError: "))


def _last(output: bytes | None) -> str:
    lines = (output or b"").decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "its start")


def main() -> None:
    """The other process: code comes in, and the name of each entry goes out before it is called."""
    entries = load(sys.stdin.buffer.read())
    for trial in trials():
        print(trial.name, flush=True)  # noqa: T201  # who waits for it reads it
        if not answers(entries[trial.name], trial):
            raise RuntimeError(f"{trial.name} answers wrongly")
    print("proven", flush=True)  # noqa: T201  # as above


def answers(entry: Entry, trial: Trial) -> bool:
    """Whether an entry leaves behind what it should, and what it was given as it was."""
    kinds = SIGNATURES[trial.name].split()
    memory = [
        (array(_TYPES[kind.removesuffix("*")], each.before), each.after)
        for kind, each in zip(kinds, trial.given, strict=True)
        if isinstance(each, Elements)
    ]
    addresses = iter([elements.buffer_info()[0] for elements, _ in memory])
    entry(*(next(addresses) if isinstance(each, Elements) else each for each in trial.given))
    return all(after is None or elements.tolist() == list(after) for elements, after in memory)


def trials() -> Iterator[Trial]:
    """Every entry at least once."""
    yield from _strips()
    yield _weighed()
    yield _survey()
    for width in (1, 2, 4):
        yield from _runs(width)
    for width in (1, 2, 4, 8):
        for last, same in ((7, 1), (8, 0)):
            yield Trial(f"alike_{width}", (_kept([7, 7, last]), 3, 7, Elements([-1], [same])))
    yield Trial("zeros_at_end", (_kept([1, 0, 0]), 3, Elements([-1], [2])))


def _strips() -> Iterator[Trial]:
    """Weight blocks: 9 × 66 codes in blocks of 8 × 64, and four rows of blocks of 1 × 2 that come to four outcomes."""
    rows, columns = 9, 66
    codes = _with([1] * (rows * columns), {0: 0, 3 * columns + 10: 0x80, 2 * columns + 65: 0x7F, 8 * columns: 0xFE})
    lanes = [Elements([0] * columns, None)] * 3
    signed, unsigned = Elements([0] * 4, [1, 0x7F, 1, 1]), Elements([0] * 4, [0x80, 0x7F, 0xFE, 1])
    strip = (_kept(codes), rows * columns, columns, 8, 64, 2, 2)
    yield Trial("reduce_strip", (*strip, signed, unsigned, *lanes, columns, Elements([-1], [2])))

    # Of E4M3; then by powers of two: exact, NaN, changed (448 × 1.5 comes back as 320 × 2), equal in value.
    magnitudes = [code * 2.0**-9 if code < 8 else (8 + code % 8) * 2.0 ** (code // 8 - 10) for code in range(128)]
    codes, largest = [0x7E, 1, 0x7F, 0, 0x7E, 0, 8, 9], _kept([0x7E, 0x7F, 0x7E, 9])
    scales, first_row, error = _kept([9.0, 1.0, 2.0, 1.5, 1.0]), 1, 32 / 672
    counts = [0, 1, 1, 1, 1, 0, 2, 1, 0, 0]
    firsts = [2, 0, 127, 3, 0, 126, 3, 0, 126, -1, -1, -1, 3, 0, 126]
    measures = [2.0, 0.0, 1.5, error, 1.5, error, 0.0, 0.0, 1.5, error, error, 0.0]
    none = [0] * 128
    yield Trial(
        "judge_strip",
        (
            _kept(codes), len(codes), 2, 1, 2, 4, 1, largest, largest, scales, 5, 1, first_row, _kept(magnitudes),
            Elements([0] * 10, counts), Elements(none, _with(none, {9: 1, 126: 2, 127: 1})),
            Elements([-1] * 15, firsts), Elements([0.0] * 12, measures), Elements([1] * 128, _with(none, {8: 1, 9: 1})),
        ),
    )  # fmt: skip


_FILE = bytes([0x7E, 0x81, 0x7E, 0x82, 0x7E, 0x83, 0x7E, 0x84, 0x7F, 0x85, 0, 0xFE])  # six rows of two codes
_PLACE = 1 << 33  # where it begins, further than 32 bits count


def _read(descriptor: int, vector: int, count: int, place: int, flags: int) -> int:
    """Stands for preadv2: at most three bytes of `_FILE` at once."""
    if (descriptor, count, flags) != (5, 1, 8):
        return -1
    where, size = (ctypes.c_int64 * 2).from_address(vector)
    data = _FILE[place - _PLACE :][: min(size, 3)]
    ctypes.memmove(where, data, len(data))
    return len(data)


_READ = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_int32
)(_read)


def _weighed() -> Trial:
    """Six rows of blocks of 1 × 2, two of them at once: four are plain, and the last two have NaN."""
    function = ctypes.cast(_READ, ctypes.c_void_p).value or 0
    lanes, none = [Elements([0] * 2, None)] * 3, [0] * 128
    grids = (Elements([0] * 2, [0x7F, 0]), Elements([0] * 2, [0x85, 0xFE]))
    return Trial(
        "weigh",
        (
            function, 5, 8, Elements([0] * 2, None), Elements([0] * 4, list(_FILE[8:])), 4, _PLACE, len(_FILE),
            2, 1, 2, 2, 1, *grids, *lanes, 2, _kept([9.0, 1.0, 2.0, 4.0, 8.0, 1.0, 1.0]), 7, 1, 1,
            _kept([448.0 if code == 0x7E else 0.0 for code in range(128)]),
            Elements([0] * 10, [0, 4, 0, 0, 0, 0, 0, 0, 0, 0]), Elements(none, _with(none, {0x7E: 4})),
            _kept([-1] * 15), _kept([0.0] * 12), _kept([1] * 128), Elements([-1] * 7, [8, 4, 1, 1, 4, 0x7E, 0]),
        ),
    )  # fmt: skip


def _survey() -> Trial:
    """1, NaN, infinity, 0, -1, the least subnormal number and 1.5, by their bits."""
    one, more = 0x3F800000, 0x3FC00000
    bits = [one, 0x7FC00000, 0x7F800000, 0, 0xBF800000, 1, more]
    none = [0] * 256
    counts, firsts = [1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2], [1, 2, 3, 4, 5, 6, 6, 0]
    results = (Elements([0] * 11, counts), Elements([-1] * 8, firsts), Elements(none, _with(none, {127: 2})))
    return Trial("survey", (_kept(bits), len(bits), more, one, *results))


def _runs(width: int) -> Iterator[Trial]:
    """Codes of `width` bytes without blocks; of a format whose largest magnitude is NaN, and whose next is infinity."""
    sign = 1 << (8 * width - 1)
    magnitude, columns = sign - 1, 64 // width
    size = 9 * columns + 3
    codes = _with([1] * size, {5: 0, 70: sign, 100: magnitude, size - 1: sign | magnitude})
    lanes = [Elements([0] * columns, None)] * 3
    results = Elements([0] * 3, [magnitude, sign | magnitude, 2])
    yield Trial(f"sweep_{width}", (_kept(codes), size, *lanes, columns, magnitude, results))

    codes = [3, sign | 5, magnitude - 1, magnitude, 0]
    results = Elements([-1] * 6, [1, 1, 2, -5, 3, 1])
    yield Trial(f"explain_{width}", (_kept(codes), 5, magnitude, magnitude - 2, magnitude - 1, results))


def _kept(elements: Sequence[float]) -> Elements:
    """What is read and not written."""
    return Elements(elements, elements)


def _with(elements: Sequence[int], changed: dict[int, int]) -> list[int]:
    return [changed.get(place, each) for place, each in enumerate(elements)]
