"""Kill trainings and make file systems fail: a separate program, because a killed process cannot report.

    python tests/crash.py kills RUNS [KILLS]   kill trainings at KILLS random moments each and resume them; print how many ended equal
    python tests/crash.py saves                kill a save, then let it fail, at each of its file operations

Torch and what else a training imports are imported once and each training is a fork, which is cheap, and safe while there is one thread."""
import contextlib
import errno
import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
import torch

from image_classifier.config import compose
from image_classifier.core import MARKER, remove_stale_temp, ResourceError
from image_classifier.data import load_data
from image_classifier.runs import Run, train
from image_classifier.training import Callback, Checkpoint, Checkpoints, optimizer_tensors

torch.set_num_threads(1)


def forked(work):
    "Run `work` in a fork of this process, and return its process id."
    sys.stdout.flush()
    if child := os.fork():
        return child
    try:
        code = work() or 0
    except BaseException as problem:
        print(f"{type(problem).__name__}: {problem}", file=sys.stderr, flush=True)
        code = 1
    os._exit(code)


def ended(child):
    "Wait for a child process, and return its exit code, or minus the signal that killed it."
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# trainings


def small():
    "Return digits for epochs of forty steps."
    splits = load_data("digits")
    return replace(splits, train=splits.train.select(range(320)), valid=splits.valid.select(range(32)), test=splits.test.select(range(32)))


CONFIG = compose(["epochs=2", "batch_size=8", "device=cpu", "checkpoint.every_steps=7"])


class OptimizerHash(Callback):
    "Writes a hash of the optimizer's state."
    def __init__(self, path):
        self.path = path

    def on_epoch_end(self, state):
        parts = sorted(optimizer_tensors(state.optimizer).items())
        self.path.write_text(hashlib.sha256(b"".join(name.encode() + tensor.contiguous().numpy().tobytes() for name, tensor in parts)).hexdigest())


def outcome(folder):
    "Return everything that must not depend on interruptions."
    run = Run(folder)
    weights = hashlib.sha256((folder / "classifier" / "model.safetensors").read_bytes()).hexdigest()
    return {"weights": weights, "optimizer": (folder.parent / f"{folder.name}.optimizer").read_text(),
            "history": [replace(result, seconds=0) for result in run.history],
            "metrics": {name: value for name, value in run.metrics.items() if name != "time"}}


def trained(folder, splits):
    "Train in a fork, resuming if there are checkpoints."
    return forked(lambda: train(CONFIG, folder, callbacks=[OptimizerHash(folder.parent / f"{folder.name}.optimizer")], splits=splits) and 0)


def import_as_training(place, splits):
    "Import what a training imports on its way (matplotlib, torch's tracer), so that it is not imported in each fork."
    def report():
        train(CONFIG, place / "first", splits=splits)
        (place / "modules.json").write_text(json.dumps(sorted(sys.modules)))
    assert ended(forked(report)) == 0
    for name in json.loads((place / "modules.json").read_text()):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1


def kills(runs, most=1):
    "Kill each of `runs` trainings at random moments, at most `most` times, and return how many ended equal."
    place, draw, splits = Path(tempfile.mkdtemp()), random.Random(42), small()
    try:
        import_as_training(place, splits)
        begun = time.monotonic()
        assert ended(trained(place / "whole", splits)) == 0
        whole, length = outcome(place / "whole"), time.monotonic() - begun
        equal, killed, failed = 0, 0, 0
        for number in range(runs):
            folder = place / f"run{number}"
            for _ in range(draw.randint(min(2, most), most)):
                child = trained(folder, splits)
                time.sleep(draw.uniform(0.02, length))
                os.kill(child, signal.SIGKILL)
                killed += ended(child) == -signal.SIGKILL
            failed += ended(trained(folder, splits)) != 0
            equal += outcome(folder) == whole and {file.name for file in folder.rglob(".*")} <= {MARKER}
            shutil.rmtree(folder)
        return {"runs": runs, "equal": equal, "killed": killed, "failed": failed}
    finally:
        shutil.rmtree(place)


# file systems


def checkpoint(step):
    return Checkpoint(step, {"w": torch.full((64,), float(step))}, {"0.momentum_buffer": torch.ones(64)}, {"w": torch.zeros(64)}, {"best_step": 0, "epoch": 1})


OPERATIONS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree", "os.listdir", "os.scandir"}


def at_operation(number, folder, fault):
    "From now on in this process, call `fault` at the given operation on files below `folder`."
    count = 0

    def count_one():
        nonlocal count
        count += 1
        if count == number:
            fault()

    def hook(event, arguments):
        if event in OPERATIONS and any(isinstance(path, (str, Path)) and str(path).startswith(str(folder)) for path in arguments):
            count_one()
    fsync = os.fsync

    def counted_fsync(handle):
        count_one()
        fsync(handle)
    sys.addaudithook(hook)
    os.fsync = counted_fsync


def saved_with(number, folder, fault):
    "Save step 30 next to 10 and 20 in a fork with a fault at one operation; return its exit code, 77 if there were fewer operations."
    shutil.rmtree(folder, ignore_errors=True)
    store = Checkpoints(folder, keep=2)
    for step in (10, 20):
        store.save(checkpoint(step))

    def save():
        faults = []
        at_operation(number, folder, lambda: (faults.append(1), fault()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store.save(checkpoint(30))
        return 0 if faults else 77
    return ended(forked(save))


def state_of(folder):
    "Return the step of the newest checkpoint after clean-up; its weights must be those of that step."
    store = Checkpoints(folder, keep=2)
    remove_stale_temp(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = store.latest()
    assert found.model["w"][0] == found.step and [file.name for file in folder.glob(".*")] == [MARKER]
    return found.step


def failing(number):
    "Return a function that raises a system error."
    def fail():
        raise OSError(number, os.strerror(number))
    return fail


def saves():
    "For each operation of a save: the checkpoint found after a kill there, and after an error of each kind."
    place, found = Path(tempfile.mkdtemp()), {}
    for name, fault, codes in [("death", lambda: os._exit(9), (9,)), ("ENOSPC", failing(errno.ENOSPC), (0,)), ("EIO", failing(errno.EIO), (0,))]:
        steps, number = [], 1
        while (code := saved_with(number, place / "checkpoints", fault)) != 77:
            assert code in codes, (name, number, code)
            steps.append(state_of(place / "checkpoints"))
            number += 1
        assert set(steps) <= {20, 30}, steps
        found[name] = {"operations": len(steps), "old": steps.count(20), "new": steps.count(30)}
    shutil.rmtree(place)
    found["EFBIG"] = ended(forked(too_large))
    return found


def too_large():
    "Limit files to 100 bytes: two warnings, then an error, and the earlier checkpoint is intact."
    place = Path(tempfile.mkdtemp())
    store = Checkpoints(place, keep=2)
    store.save(checkpoint(10))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in (20, 30):
            store.save(checkpoint(step))
        try:
            store.save(checkpoint(40))
        except ResourceError as problem:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            good = len(caught) == 2 and store.latest().step == 10 and problem.exit_code == 6
            shutil.rmtree(place)
            return 0 if good else 3
    return 4


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    print(json.dumps({"kills": kills, "saves": saves}[what](*map(int, numbers))))
