"""What differs between operating systems, in one place."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from typing import IO, Any

PARENT = os.getppid()  # read early: it may be killed at any time

# What the system refuses without naming a file; the rest of such errors are faults of ours.
ITS_OWN = {errno.EIO, errno.EROFS, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENODEV, errno.ENXIO}
ADVICE = {
    errno.EMFILE: "close some, or allow more (ulimit -n)",
    errno.ENFILE: "close some programs",
    errno.EIO: "check the disk",
    errno.ENOMEM: "close some programs",
    errno.ENOENT: "check the path",
    errno.ENAMETOOLONG: "choose a shorter name",
}
NO_UTF8 = re.compile("[^\\s\"']*[\ud800-\udfff][^\\s\"']*")


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


def end_with_parent() -> None:
    """Let this process end within a second of the one that started it: a parent that is killed cannot end it.

    Also from within a call that never returns, such as a sum over processes one of which is gone. On Windows, where
    nobody tells that a parent has ended, nothing happens.
    """

    def watch() -> None:
        while os.getppid() == PARENT:
            time.sleep(0.5)
        os._exit(1)  # as good as killed, which a run bears at any instant

    threading.Thread(target=watch, daemon=True).start()


def lock(file: IO[Any]) -> bool:
    """Lock an open file for this process until it ends or closes it; False if another process holds it."""
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            os.lseek(file.fileno(), 2**30, os.SEEK_SET)  # beyond what is in it, which others may then still read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        return False
    return True


def can_show(text: str, encoding: str | None) -> bool:
    """Whether a console of that encoding has all signs of a text."""
    try:
        text.encode(encoding or "ascii")
    except UnicodeEncodeError:
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


def explain(error: Exception) -> str | None:
    """One sentence for what the system refused, such as a path with no place for a file; None for others.

    Libraries written in Rust hand on its words alone, and torch.save raises an error of its own over the system's.
    """
    if is_disk_full(error):
        return "the disk is full; free some space and run the same command again"
    if isinstance(error, UnicodeEncodeError) and (name := NO_UTF8.search(error.object)):
        return f"the name {name[0]!a} is not UTF-8; rename the file"
    if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
        error = error.__context__
    if not isinstance(error, OSError):
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            return None
        error = OSError(int(number[1]), os.strerror(int(number[1])))
    name = error.filename if error.filename2 is None else error.filename2
    if name is None and error.errno not in ITS_OWN:
        return None
    where = "" if name is None or isinstance(name, int) else f"{os.fsdecode(name)}: "
    return f"{where}{error.strerror}; {ADVICE.get(error.errno or 0, 'choose another path')}"
