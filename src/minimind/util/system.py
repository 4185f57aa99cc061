"""What differs between operating systems, in one place."""

from __future__ import annotations

import errno
import os
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


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a failed write failed for want of space.

    safetensors hands on only the system's text, torch.save raises an error of its own over the system's.
    """
    return error is not None and (
        getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        or "No space left on device" in str(error)
        or is_disk_full(error.__context__)
    )
