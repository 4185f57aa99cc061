"""What other systems lack, as far as it can be tried here: POSIX's modules, and removing what is open."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.helpers import start_function

from minimind.cli import main

IMPORT_ALL = """
import os, signal, sys
import torch._dynamo, transformers, jinja2, streamlit, uvicorn, fastapi, llguidance, gguf, mcp, rich, yaml  # theirs

for name in ("fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
for name in ("fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "getloadavg", "killpg", "mkfifo", "nice",
             "sched_getaffinity", "setsid", "statvfs", "sysconf", "uname", "wait3", "WNOHANG", "O_NOFOLLOW"):
    delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGALRM", "SIGXCPU", "SIGCHLD", "SIGUSR1", "SIGPIPE", "alarm",
             "pthread_sigmask"):
    delattr(signal, name)

import importlib, pkgutil
import minimind

names = [module.name for module in pkgutil.walk_packages(minimind.__path__, "minimind.", onerror=lambda name: None)]
for name in names:
    if name != "minimind.__main__":
        importlib.import_module(name)
print(len(names))
"""


def test_every_module_is_imported_without_posix():
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 200


def refuse_what_is_open(directory):
    """From now on die where a file below `directory` is renamed or removed while this process has it open."""

    def open_files():
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
        descriptors = Path("/proc/self/fd").iterdir()
        yield from (os.readlink(one) for one in descriptors if one.is_symlink())
        yield from (line.split(maxsplit=5)[-1].strip() for line in maps.split("\n") if line)

    def hook(event, arguments):
        if event in ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
            paths = [os.path.abspath(path) for path in arguments[:2] if isinstance(path, str | Path)]
            for path in [path for path in paths if path.startswith(str(directory))]:
                for name in open_files():
                    if name == path or name.startswith(path + "/"):
                        print(f"{event} of {path} while {name} is open", flush=True)
                        os._exit(1)

    sys.addaudithook(hook)


def do_all(directory, commands):
    with (directory / "probe").open("w"):  # the hook works
        child = os.fork()
        if child == 0:
            refuse_what_is_open(directory)
            (directory / "probe").rename(directory / "other")
            os._exit(0)
        assert os.waitpid(child, 0)[1] != 0
    (directory / "probe").unlink()
    refuse_what_is_open(directory)
    for command in commands:
        assert main(command) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux which files are open")
def test_nothing_is_replaced_or_removed_while_it_is_open(pretrain, dpo, corpus, tmp_path):
    """Windows refuses that."""
    changes = {"evaluation__every": 3, "evaluation__samples": 1, "checkpoint__every": 2, "checkpoint__keep": 1}
    run, out = tmp_path / "run", tmp_path / "out"
    export = ["export", "hf", str(run), "--out", str(out)]
    tokenizer = ["tokenizer", "train", "--data", str(corpus), "--out", str(tmp_path / "tokenizer"), "--force"]
    commands = [pretrain(run, **changes, budget__steps=6), pretrain(run, **changes, budget__steps=8)]
    commands += [dpo(tmp_path / "dpo", budget__steps=steps) for steps in (2, 3)]
    commands += [export, export, *[[*tokenizer, "--vocab-size", size] for size in ("300", "320")]]
    commands += [["runs", "report", str(run)]] * 2
    log = tmp_path / "log"
    process = start_function(do_all, tmp_path, commands, log=log)
    process.join(250)
    assert process.exitcode == 0, log.read_text()
