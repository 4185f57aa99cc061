"""What differs between operating systems, in one place."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import sys
from pathlib import Path
from typing import IO


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs. Where there is no harmless way to ask (Windows), yes."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, and running
    return True


def lock(file: IO[str]) -> bool:
    """Lock an open file for this process until it ends or closes it; False if another process holds it."""
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        return False
    return True


def flush(path: Path) -> None:
    """Bring a file, or the names in a directory, to the disk now (Windows has no such call for directories)."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def processor() -> str:
    """The name of the CPU, where the system tells it; else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_memory() -> int:
    """Largest memory of this process so far, in bytes; 0 where the system does not tell."""
    if os.name != "posix":
        return 0
    with contextlib.suppress(OSError, StopIteration):  # what Linux gives below holds the parent's peak as well
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak_memory() -> None:
    """Let `peak_memory` begin anew, on Linux; elsewhere it goes on from the beginning of the process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def available_memory() -> int | None:
    """Bytes that a process could still take without swapping; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


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


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a failed write failed for want of space.

    safetensors hands on only the system's text, torch.save raises an error of its own over the system's.
    """
    return error is not None and (
        getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        or "No space left on device" in str(error)
        or is_disk_full(error.__context__)
    )
