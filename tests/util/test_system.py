"""What is asked of the operating system."""

import subprocess
import sys

import pytest

from minimind import hardware

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")

FAULTS = """
import resource, sys
import torch
from minimind.hardware import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for count in (30, 5):  # at first the heap grows
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        torch.ones(16 * 2**20)  # 64 MiB, freed at once
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_kept_memory_is_not_fetched_again():
    """Otherwise each of the blocks costs a page fault for every 4 KiB."""

    def faults(how):
        return int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True).stdout)

    assert faults("keep") < 100 < faults("give back")


def test_the_peak_is_that_of_the_process_and_not_of_its_parent():
    own = "from minimind.hardware import process_peak_memory; print(process_peak_memory())"
    block = bytearray(800 * 2**20)  # all of it written to, so that this process has had it
    peak = int(subprocess.run([sys.executable, "-c", own], capture_output=True, check=True).stdout)
    assert len(block) < hardware.process_peak_memory()
    assert 2**20 < peak < 600 * 2**20  # torch is loaded there
