"What a machine that is too small costs: a line that says what would fit, and nothing that was reached before."
import json
import os
import subprocess
import sys

import pytest

from image_classifier.core import limits, MARKER
from image_classifier.runs import Run
from image_classifier.training import Checkpoints

BATCH = 1293  # all there is to train on
WORDS = ["data.size=40", f"batch_size={BATCH}", "epochs=2", "device=cpu"]  # the first layer alone makes 260 MB of it
ALONE = {**os.environ, "OMP_NUM_THREADS": "1"}  # no threads, whose stacks would count

CUT = """
import sys
from image_classifier.config import compose
from image_classifier.runs import train
from image_classifier.training import Callback

class Cut(Callback):
    "Says how much memory is in use before the first step, and ends after the first epoch."
    def on_fit_start(self, training):
        print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmPeak")))
    def on_epoch_start(self, training):
        if training.epoch == 1:
            sys.exit(0)

folder, *words = sys.argv[1:]
train(compose(words), folder, callbacks=[Cut()])
"""


def ic(*words, memory=None):
    "The command in a process of its own, which may take so many kilobytes of address space."
    command = [sys.executable, "-m", "image_classifier.cli", *words]
    limited = ["sh", "-c", 'ulimit -v "$0" && exec "$@"', str(memory), *command]
    return subprocess.run(limited if memory else command, capture_output=True, text=True, env=ALONE)


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited on Linux only")
def test_out_of_memory_suggests_a_batch_and_costs_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", CUT, str(tmp_path / "cut"), *WORDS], capture_output=True, text=True, env=ALONE)
    assert done.returncode == 0, done.stderr
    memory, saved = int(done.stdout) + (256 << 10), content(tmp_path / "cut" / "checkpoints")
    for name in ("new", "cut"):
        refused = ic("train", *WORDS, "--out", str(tmp_path / name), memory=memory)
        assert (refused.returncode, refused.stdout) == (6, ""), refused.stderr
        lines = [line for line in refused.stderr.splitlines() if not line.startswith(("warning: ", "augmentation: ", "model=auto "))]  # what is said of the data
        assert lines == [f"error: out of memory with batch_size={BATCH}. try batch_size={BATCH // 2}"]
        assert {file.name for file in (tmp_path / name).rglob(".*")} <= {MARKER} and not Run(tmp_path / name).finished
    assert not Checkpoints(tmp_path / "new" / "checkpoints").list_steps()
    assert content(tmp_path / "cut" / "checkpoints") == saved and Checkpoints(tmp_path / "cut" / "checkpoints").latest().step == 1
    done = ic("train", *WORDS, "--out", str(tmp_path / "cut"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["resumed"] == 1


def test_the_limits_of_a_container_count(monkeypatch):
    monkeypatch.setattr(limits, "_cgroup", lambda name: {"cpu.max": ["100000", "100000"], "memory.max": ["1000000"]}[name])
    assert (limits.available_cores(), limits.host_memory()) == (1, 1_000_000)
    monkeypatch.setattr(limits, "_cgroup", lambda name: ["max"])
    assert limits.host_memory() > 1_000_000
