"""Multiply sparse by dense matrices in machine code that LLVM compiles at run time, for :mod:`.runtime`.

After Fast Sparse ConvNets (Elsen et al., CVPR 2020, arXiv:1911.09723): a row of the sparse matrix is read once for a
tile of columns, whose sums stay in vector registers. Differs: written in LLVM's assembly and compiled by ``llvmlite``
for this processor, so that no compiler is needed; the tile of the dense matrix is first copied to aligned memory,
because rows of 49 or 196 floats are not aligned; the last vector of a row overlaps the one before it, so that no masks
are needed; threads are those of torch.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from string import Template
from typing import Any

LANES = 16
"""Floats in a vector, and the fewest columns there can be: one register of AVX-512; others take two or four."""

TILE = 4 * LANES
"""Columns in a tile: enough sums to hide the latency of an addition, few enough for 200 rows to stay in the cache."""

Kernel = Callable[[Any, int], None]
"""Runs a task (see ``TASK``), a ctypes array of words, on a number of threads."""

# Copies $w vectors of each of the %rows rows of $n floats at %x to consecutive aligned vectors at %tile.
_COPY = Template("""
define internal void @copy$w(i64 %rows, ptr noalias %x, ptr noalias %tile, i64 %last) {
entry:
  br label %row
row:
  %i = phi i64 [0, %entry], [%i1, %row]
  %i1 = add i64 %i, 1
  %from = mul i64 %i, $n
  %a = getelementptr float, ptr %x, i64 %from
  %to = mul i64 %i, $columns
  %b = getelementptr float, ptr %tile, i64 %to
$copies
  %more = icmp slt i64 %i1, %rows
  br i1 %more, label %row, label %over
over:
  ret void
}""")

# Rows %first to %stop of the product, for the tile; sums begin at the bias. @begins is of a compressed sparse matrix.
_MULTIPLY = Template("""
define internal void @multiply$w(i64 %first, i64 %stop, ptr noalias %begins, ptr noalias %indices, ptr noalias %values,
                                 ptr noalias %bias, ptr noalias %tile, ptr noalias %out, i64 %last) {
entry:
  %work = icmp slt i64 %first, %stop
  br i1 %work, label %row, label %over
row:
  %i = phi i64 [%first, %entry], [%i1, %store]
  %i1 = add i64 %i, 1
  %pb = getelementptr i32, ptr %begins, i64 %i
  %b32 = load i32, ptr %pb
  %begin = sext i32 %b32 to i64
  %pe = getelementptr i32, ptr %begins, i64 %i1
  %e32 = load i32, ptr %pe
  %end = sext i32 %e32 to i64
  %po = getelementptr float, ptr %bias, i64 %i
  %offset = load float, ptr %po
  %o1 = insertelement <16 x float> poison, float %offset, i32 0
  %start = shufflevector <16 x float> %o1, <16 x float> poison, <16 x i32> zeroinitializer
  %some = icmp slt i64 %begin, %end
  br i1 %some, label %weight, label %store
weight:
  %k = phi i64 [%begin, %row], [%k1, %weight]
$sums
  %k1 = add i64 %k, 1
  %pi = getelementptr i32, ptr %indices, i64 %k
  %i32 = load i32, ptr %pi
  %index = zext i32 %i32 to i64
  %at = mul i64 %index, $columns
  %x = getelementptr float, ptr %tile, i64 %at
  %pv = getelementptr float, ptr %values, i64 %k
  %v = load float, ptr %pv
  %v1 = insertelement <16 x float> poison, float %v, i32 0
  %value = shufflevector <16 x float> %v1, <16 x float> poison, <16 x i32> zeroinitializer
$adds
  %more = icmp slt i64 %k1, %end
  br i1 %more, label %weight, label %store
store:
$totals
  %to = mul i64 %i, $n
  %y = getelementptr float, ptr %out, i64 %to
$stores
  %again = icmp slt i64 %i1, %stop
  br i1 %again, label %row, label %over
over:
  ret void
}""")

# A task is eleven words of 64 bits, these. Share s of it is rows bounds[s] to bounds[s + 1], with a tile of its own.
# With n threads, thread t does shares t, t + n, t + 2n, ...: OpenMP may give fewer threads than were asked for.
TASK = ("bounds", "begins", "indices", "values", "bias", "x", "out", "tiles", "rows", "stride", "shares")
_NUMBERS = ("rows", "stride", "shares")
_RUN = Template("""
declare <16 x float> @llvm.fmuladd.v16f32(<16 x float>, <16 x float>, <16 x float>)
$openmp
define void @run(ptr %task) {
entry:
  %n32 = call i32 @omp_get_thread_num()
  %number = sext i32 %n32 to i64
  %t32 = call i32 @omp_get_num_threads()
  %threads = sext i32 %t32 to i64
$words
  %work = icmp slt i64 %number, %shares
  br i1 %work, label %share, label %over
share:
  %s = phi i64 [%number, %entry], [%next, %share]
  %next = add i64 %s, %threads
  %pf = getelementptr i64, ptr %bounds, i64 %s
  %first = load i64, ptr %pf
  %s1 = add i64 %s, 1
  %ps = getelementptr i64, ptr %bounds, i64 %s1
  %stop = load i64, ptr %ps
  %mine = mul i64 %s, %stride
  %tile = getelementptr float, ptr %tiles, i64 %mine
$calls
  %more = icmp slt i64 %next, %shares
  br i1 %more, label %share, label %over
over:
  ret void
}""")
_OPENMP = """declare i32 @omp_get_thread_num()
declare i32 @omp_get_num_threads()"""
_ALONE = """define internal i32 @omp_get_thread_num() {
  ret i32 0
}
define internal i32 @omp_get_num_threads() {
  ret i32 1
}"""


@functools.cache
def compile_kernel(columns: int) -> Kernel:
    """Return a function that multiplies any sparse matrix by a dense one; the first call for a width takes 20 ms.

    Args:
        columns: of the dense matrix, at least :data:`LANES`.

    Raises:
        ImportError: llvmlite is not installed.
    """
    import llvmlite.binding as llvm

    together = _openmp()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(write_source(columns, together is not None))
    host = {"cpu": llvm.get_host_cpu_name(), "features": llvm.get_host_cpu_features().flatten()}
    machine = llvm.Target.from_default_triple().create_target_machine(opt=3, jit=True, **host)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    address = engine.get_function_address("run")
    alone = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)

    def run(task: Any, threads: int, engine: Any = engine) -> None:  # the engine owns the code
        if threads == 1 or together is None:
            alone(task)
        else:
            together(address, task, threads, 0)

    return run


@functools.cache
def _openmp() -> Any:
    """Return GNU OpenMP's function that starts threads, torch's own in its Linux builds; None without it."""
    try:
        start = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return None
    start.argtypes, start.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return start


def write_source(columns: int, threads: bool) -> str:
    """Return the kernel in LLVM's assembly: a function for each width of tile, and one that loops over the tiles."""
    count = -(-columns // TILE)
    vectors = -(-columns // LANES)
    widths = [vectors // count + (tile < vectors % count) for tile in range(count)]  # as even as can be
    parts = [_write_copy(columns, width) + _write_multiply(columns, width) for width in sorted(set(widths))]
    return "".join([_write_run(columns, widths, threads), *parts])


def _write_copy(n: int, width: int) -> str:
    lines = [
        f"""  %pa{j} = getelementptr float, ptr %a, i64 {_column(j, width)}
  %v{j} = load <16 x float>, ptr %pa{j}, align 4
  %pb{j} = getelementptr float, ptr %b, i64 {LANES * j}
  store <16 x float> %v{j}, ptr %pb{j}, align 64"""
        for j in range(width)
    ]
    return _COPY.substitute(w=width, n=n, columns=LANES * width, copies="\n".join(lines))


def _write_multiply(n: int, width: int) -> str:
    vectors = range(width)
    sums = [f"  %s{j} = phi <16 x float> [%start, %row], [%a{j}, %weight]" for j in vectors]
    adds = [
        f"""  %px{j} = getelementptr float, ptr %x, i64 {LANES * j}
  %x{j} = load <16 x float>, ptr %px{j}, align 64
  %a{j} = call <16 x float> @llvm.fmuladd.v16f32(<16 x float> %value, <16 x float> %x{j}, <16 x float> %s{j})"""
        for j in vectors
    ]
    totals = [f"  %t{j} = phi <16 x float> [%start, %row], [%a{j}, %weight]" for j in vectors]
    stores = [
        f"""  %py{j} = getelementptr float, ptr %y, i64 {_column(j, width)}
  store <16 x float> %t{j}, ptr %py{j}, align 4"""
        for j in vectors
    ]
    lines = {"sums": sums, "adds": adds, "totals": totals, "stores": stores}
    return _MULTIPLY.substitute(w=width, n=n, columns=LANES * width, **{k: "\n".join(v) for k, v in lines.items()})


def _column(vector: int, width: int) -> str:
    """Return where a vector begins in a tile; for the last one, which may overlap the one before, a variable."""
    return "%last" if vector == width - 1 else str(LANES * vector)


def _write_run(n: int, widths: list[int], threads: bool) -> str:
    words = [
        f"""  %p{word} = getelementptr i64, ptr %task, i64 {i}
  %{word} = load {"i64" if word in _NUMBERS else "ptr"}, ptr %p{word}"""
        for i, word in enumerate(TASK)
    ]
    calls, column = [], 0
    for i, width in enumerate(widths):
        last = min(LANES * (width - 1), n - LANES - column)
        calls.append(f"""  %x{i} = getelementptr float, ptr %x, i64 {column}
  %y{i} = getelementptr float, ptr %out, i64 {column}
  call void @copy{width}(i64 %rows, ptr %x{i}, ptr %tile, i64 {last})
  call void @multiply{width}(i64 %first, i64 %stop, ptr %begins, ptr %indices, ptr %values, ptr %bias,
                             ptr %tile, ptr %y{i}, i64 {last})""")
        column += LANES * width
    openmp = _OPENMP if threads else _ALONE
    return _RUN.substitute(openmp=openmp, words="\n".join(words), calls="\n".join(calls))
