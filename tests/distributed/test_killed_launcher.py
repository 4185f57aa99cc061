"""Whoever is started by another process ends soon after that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.helpers import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes as Linux lists them")
SECONDS = 20  # a busy machine; it takes one second


def children(pid: int) -> list[int]:
    listed = (path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for part in listed for child in part]


def descendants(pid: int) -> list[int]:
    return [one for child in children(pid) for one in (child, *descendants(child))]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition, seconds=100):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def kill_and_watch(process, started):
    """Kill a process; those that it started must end."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        wait_for(lambda: not any(map(is_running, started)), SECONDS)
    finally:
        for pid in filter(is_running, started):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("after_steps", [0, 3])
def test_workers_end_with_torchrun(pretrain, tmp_path, after_steps):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
    command += ["-m", "minimind", *pretrain(run, budget__steps=100_000)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: len(children(process.pid)) == 2)
        lines = run / "metrics.jsonl"
        wait_for(lambda: not after_steps or (lines.exists() and lines.read_bytes().count(b"\n") > after_steps))
        kill_and_watch(process, descendants(process.pid))
    finally:
        process.kill()


def test_a_tool_ends_with_the_program_that_called_it(tmp_path):
    """And what the tool started as well."""
    (tmp_path / "tool.py").write_text(
        "import subprocess, time\n"
        "def wait() -> str:\n    'Wait.'\n    subprocess.Popen(['sleep', '1000'])\n    time.sleep(1000)\n"
    )
    program = (
        "from pathlib import Path; from minimind.tools.python_file import python_file_tools\n"
        "from minimind.tools.tool import Limits\n"
        f"python_file_tools(Path({str(tmp_path / 'tool.py')!r}), Limits(seconds=500))[0].run({{}})"
    )
    process = subprocess.Popen([sys.executable, "-c", program], env=dict(os.environ))
    try:
        wait_for(lambda: len(descendants(process.pid)) == 2)
        kill_and_watch(process, descendants(process.pid))
    finally:
        process.kill()
