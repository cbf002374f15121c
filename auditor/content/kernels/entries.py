"""Where the kernels are entered from outside: plain numbers and addresses in, results written to addresses.

R and C are a strip's rows and columns, r and c its blocks. Compiled by numba, of which nothing else is imported at
run time: what leaves here is an object file without a reference to Python or to numba.
"""

from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from numba import carray, types  # type: ignore[attr-defined]  # numba's own types leave it out

from auditor.content.kernels import reduce as kernels
from auditor.content.kernels import roundtrip, straight
from auditor.content.kernels.native import PREFIX, SIGNATURES, target_machine


def reduce_strip(
    strip: Any, size: int, columns: int, block_rows: int, block_columns: int, grid_rows: int, grid_columns: int,
    signed_rc: Any, unsigned_rc: Any, signed_lanes: Any, unsigned_lanes: Any, zero_lanes: Any, width: int, zeros: Any,
) -> None:  # fmt: skip
    """`kernels.reduce_strip`; lanes are `width` long."""
    carray(zeros, 1)[0] = kernels.reduce_strip(
        carray(strip, size), columns, block_rows, block_columns,
        carray(signed_rc, (grid_rows, grid_columns)), carray(unsigned_rc, (grid_rows, grid_columns)),
        carray(signed_lanes, width), carray(unsigned_lanes, width), carray(zero_lanes, width),
    )  # fmt: skip


def judge_strip(
    strip: Any, size: int, columns: int, block_rows: int, block_columns: int, grid_rows: int, grid_columns: int,
    signed_rc: Any, unsigned_rc: Any, scale_rc: Any, scale_rows: int, powers_of_two: int, first_row: int,
    magnitudes: Any, counts: Any, largest_codes: Any, firsts: Any, measures: Any, present: Any,
) -> None:  # fmt: skip
    """`roundtrip.judge_strip`; the scales of the whole weight are `scale_rows` × `grid_columns`."""
    grid = (grid_rows, grid_columns)
    roundtrip.judge_strip(
        carray(strip, size), columns, block_rows, block_columns, carray(signed_rc, grid), carray(unsigned_rc, grid),
        carray(scale_rc, (scale_rows, grid_columns)), powers_of_two != 0, first_row, carray(magnitudes, 128),
        carray(counts, 10), carray(largest_codes, 128), carray(firsts, (5, 3)), carray(measures, (6, 2)),
        carray(present, 128),
    )  # fmt: skip


def weigh(
    function: int, descriptor: int, flags: int, vector: Any, strip: Any, slab: int, place: int, size: int,
    columns: int, block_rows: int, block_columns: int, grid_rows: int, grid_columns: int,
    signed_rc: Any, unsigned_rc: Any, signed_lanes: Any, unsigned_lanes: Any, zero_lanes: Any, width: int,
    scale_rc: Any, scale_rows: int, powers_of_two: int, first_row: int,
    magnitudes: Any, counts: Any, largest_codes: Any, firsts: Any, measures: Any, present: Any, out: Any,
) -> None:  # fmt: skip
    """`straight.weigh`; a strip is `slab` long, and has `grid_rows` rows of blocks."""
    grid = (grid_rows, grid_columns)
    straight.weigh(
        function, descriptor, flags, carray(vector, 2), carray(strip, slab), place, size,
        columns, block_rows, block_columns, carray(signed_rc, grid), carray(unsigned_rc, grid),
        carray(signed_lanes, width), carray(unsigned_lanes, width), carray(zero_lanes, width),
        carray(scale_rc, (scale_rows, grid_columns)), powers_of_two != 0, first_row, carray(magnitudes, 128),
        carray(counts, 10), carray(largest_codes, 128), carray(firsts, (5, 3)), carray(measures, (6, 2)),
        carray(present, 128), carray(out, 7),
    )  # fmt: skip


def zeros_at_end(run: Any, size: int, zeros: Any) -> None:
    """`kernels.zeros_at_end`."""
    carray(zeros, 1)[0] = kernels.zeros_at_end(carray(run, size))


def survey(bits: Any, size: int, clamped: int, clamped_power: int, counts: Any, firsts: Any, exponents: Any) -> None:
    """`kernels.survey`."""
    kernels.survey(
        carray(bits, size), clamped, clamped_power, carray(counts, 11), carray(firsts, 8), carray(exponents, 256)
    )


def sweep(
    codes: Any, size: int, signed_lanes: Any, unsigned_lanes: Any, zero_lanes: Any, width: int, magnitude: int, out: Any
) -> None:
    """`kernels.sweep`; its three results go to `out`."""
    run, results = carray(codes, size), carray(out, 3)
    results[0], results[1], results[2] = kernels.sweep(
        run, carray(signed_lanes, width), carray(unsigned_lanes, width), carray(zero_lanes, width),
        run.dtype.type(magnitude),
    )  # fmt: skip


def explain(codes: Any, size: int, magnitude: int, largest_finite: int, infinity: int, out: Any) -> None:
    """`kernels.explain`; its six results go to `out`."""
    results = carray(out, 6)
    nan, infinite, first, smallest, largest, found = kernels.explain(
        carray(codes, size), magnitude, largest_finite, infinity
    )
    results[0], results[1], results[2], results[3], results[4] = nan, infinite, first, smallest, largest
    results[5] = np.int64(found)


def alike(codes: Any, size: int, code: int, out: Any) -> None:
    """`kernels.alike`; 1 or 0 goes to `out`."""
    run = carray(codes, size)
    carray(out, 1)[0] = np.int64(kernels.alike(run, run.dtype.type(code)))


_ENTRIES = {
    each.__name__: each for each in (reduce_strip, judge_strip, weigh, zeros_at_end, survey, sweep, explain, alike)
}

# Arrays made of addresses have no owner, so numba's destructor of owners is linked and never called.
_NEVER_CALLED = "define void @NRT_MemInfo_call_dtor(ptr %owner) { ret void }"


def compiled() -> bytes:
    """The entries as an object file for this processor."""
    machine = target_machine()
    whole = llvm.parse_assembly(_NEVER_CALLED)
    for name, signature in SIGNATURES.items():
        whole.link_in(_module(name, signature))
    for value in (*whole.functions, *whole.global_variables):
        if not value.is_declaration and not value.name.startswith(PREFIX):
            value.linkage = "internal"
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(whole, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    missing = [each.name for each in whole.functions if each.is_declaration and not each.name.startswith("llvm.")]
    if missing:
        raise RuntimeError(f"the kernels need what only numba has: {', '.join(missing)}")
    whole.verify()
    return bytes(machine.emit_object(whole))


def _module(name: str, signature: str) -> llvm.ModuleRef:
    """One entry with all that it calls, under its own name."""
    given = tuple(types.int64 if kind == "n" else _address(kind) for kind in signature.split())
    function = _ENTRIES[name.rstrip("_12348")]
    dispatcher: Any = numba.njit(types.void(*given), nogil=True, error_model="numpy")(function)
    module = llvm.parse_assembly(dispatcher.inspect_llvm(given))
    module.get_function(dispatcher.overloads[given].fndesc.llvm_func_name).name = PREFIX + name
    return module


def _address(kind: str) -> Any:
    """numba's type of an address: `n*` of whole numbers, or numpy's name of the elements' type."""
    text = kind.removesuffix("*")
    element = types.int64 if text == "n" else numba.from_dtype(np.dtype(text))
    return types.CPointer(element)  # type: ignore[no-untyped-call]  # numba's
