"""What this machine can do: its devices and types of numbers, how fast it multiplies, and its memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from minimind.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name; auto is CUDA, then Apple's MPS, then the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device {name!r} cannot be used here; try auto or cpu")
    return device


def sampling_device(device: torch.device) -> torch.device:
    """Where tokens are sampled: on the device, or on the CPU where that has no fp64 (MPS)."""
    return torch.device("cpu") if device.type == "mps" else device


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type of the computation; auto takes bf16 where that is fast."""
    return DTYPES[precision] if precision in DTYPES else choose_dtype(device)[0]


def choose_dtype(device: torch.device) -> tuple[torch.dtype, str]:
    """The type that auto takes on a device, and why.

    On a CPU the two are timed. That it has instructions for bf16 does not say it: with AVX512-BF16 a Zen 4 is three
    times as fast as in fp32, and a Xeon without AMX slower than in fp32.
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:
            return torch.bfloat16, f"compute capability {major}.{minor} has matrix units for bf16"
        return torch.float16, f"compute capability {major}.{minor} has no bf16 units, which came with 8.0"
    if device.type == "cpu":
        fp32, bf16 = rates_on_one_thread((torch.float32, torch.bfloat16))
        timed = f"on one thread bf16 reaches {bf16 / 1e9:,.0f} GFLOP/s and fp32 {fp32 / 1e9:,.0f}"
        return (torch.bfloat16 if bf16 > fp32 else torch.float32), timed
    return torch.float32, "the only type used on this device"


EMULATED = 5e9  # operations per second: a processor with instructions for a type does more


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product here and now: what MFU is a share of."""
    if device.type == "cuda":
        return product_rate(8192, 8192, 8192, device, dtype)
    small = product_rate(256, 256, 256, device, dtype)
    # Where a type is emulated, a large product would take seconds, and is no faster per operation.
    return small if small < EMULATED else product_rate(1024, 1024, 1024, device, dtype)


def rates_on_one_thread(dtypes: Sequence[torch.dtype]) -> list[float]:
    """Floating-point operations per second of a matrix product in each type on this CPU.

    On one thread and in turn, so that other work on the machine does not decide: threads that wait for one another
    are slowed down by any amount.
    """
    threads, device = torch.get_num_threads(), torch.device("cpu")
    torch.set_num_threads(1)
    try:
        rounds = [[product_rate(256, 256, 256, device, dtype) for dtype in dtypes] for _ in range(4)]
    finally:
        torch.set_num_threads(threads)
    return [max(rates) for rates in zip(*rounds)]


def product_rate(rows: int, inner: int, columns: int, device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a product (rows, inner) @ (inner, columns)."""
    a = torch.randn(rows, inner, device=device).to(dtype)
    b = torch.randn(inner, columns, device=device).to(dtype)
    best = 0.0
    for _ in range(4):  # the first is a warm-up; noise only ever slows down
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        best = max(best, 2 * rows * inner * columns / (time.perf_counter() - start))
    return best


def padded_size(size: int, like: torch.Tensor) -> int:
    """The rows to compute in products of `like`'s type where `size` would do: few different ones on a CPU.

    There oneDNN multiplies in half precision. For every new shape it writes a program of about a megabyte, which
    takes longer than the product, and keeps a thousand of them. So sizes that change from step to step are padded
    to one of eight between a power of two and the next.
    """
    if like.device.type != "cpu" or like.dtype not in (torch.bfloat16, torch.float16):
        return size
    step = max(32, 2 ** (size.bit_length() - 4))
    return -(-size // step) * step


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory_gb(device: torch.device) -> float:
    """Largest memory so far in 10⁹ bytes: of the device, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return process_peak_memory() / 1e9


def reset_peak_memory(device: torch.device) -> None:
    """Let `peak_memory_gb` begin anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        reset_process_peak_memory()


def process_peak_memory() -> int:
    """Largest memory of this process so far, in bytes; 0 where the system does not tell."""
    if os.name != "posix":
        return 0
    if peak := proc_value("/proc/self/status", "VmHWM"):  # what Linux gives below holds the parent's peak as well
        return kibibytes(peak)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_process_peak_memory() -> None:
    """Let `process_peak_memory` begin anew, on Linux; elsewhere it goes on from the beginning of the process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def free_memory(device: torch.device) -> float | None:
    """GB that a process could still take of a CPU's memory without swapping; None where nobody tells."""
    free = proc_value("/proc/meminfo", "MemAvailable") if device.type == "cpu" else None
    return kibibytes(free) / 1e9 if free else None


def total_memory(device: torch.device) -> float | None:
    """GB of a device's memory, or what a container may take of the machine's; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 1e9
    total = proc_value("/proc/meminfo", "MemTotal")
    if not total:
        return None
    with contextlib.suppress(OSError, ValueError):  # a container's limit; "max" where there is none
        return min(kibibytes(total), int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))) / 1e9
    return kibibytes(total) / 1e9


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next allocation, where it is glibc; elsewhere nothing happens.

    It would give a block of more than 32 MiB back at once, and the system fills the next one with zeros, page by
    page: a fifth of the time of a large matrix product.
    """
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as in malloc.h
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def processor() -> str:
    """The name of the CPU, where the system tells it; else its kind."""
    return proc_value("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def proc_value(file: str, name: str) -> str | None:
    """The first value of that name in one of Linux's files of `name: value` lines; None where there is none."""
    try:
        lines = Path(file).read_text(encoding="utf-8").split("\n")
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), None)


def kibibytes(text: str) -> int:
    """Bytes of a value such as `1234 kB`, which means KiB."""
    return 1024 * int(text.split()[0])
