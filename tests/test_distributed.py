"Distributed training: several processes see the same images in the same steps as one, and the first writes the files."
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from literate import ROOT

from image_classifier.runs import Run
from image_classifier.training import DistributedContext

pytest.importorskip("accelerate", reason="the extra parallel is not installed")
WORDS = ["data=digits", "hyperparameters=fast", "epochs=2", "batch_size=100", "device=cpu"]


def launched(words, processes=2, **options):
    "Start a training in several processes with torchrun."
    return subprocess.Popen([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone", *words], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, **options)


def ended(process, seconds=300):
    "Wait for a training to succeed, and return its output."
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    "A run in one process, the same run in two, and the output of the two."
    place = tmp_path_factory.mktemp("ranks")
    out, err = ended(launched(["-m", "image_classifier.cli", "train", *WORDS, "--out", str(place / "two")]))
    ended(launched(["-m", "image_classifier.cli", "train", *WORDS, "--out", str(place / "one")], processes=1))
    return Run(place / "one"), Run(place / "two"), out, err


def test_two_processes_train_as_well_as_one(pair):
    one, two, out, err = pair
    assert two.metrics["epochs"] == 2 and two.metrics["data"] == one.metrics["data"]
    assert two.metrics["test"]["accuracy"]["low"] <= one.metrics["test"]["accuracy"]["value"] <= two.metrics["test"]["accuracy"]["high"]
    for first, second in zip(one.history, two.history):
        assert first.step == second.step and first.lr == second.lr
        assert second.train_loss == pytest.approx(first.train_loss, rel=0.05)


def test_only_the_first_process_prints_and_writes(pair):
    one, two, out, err = pair
    assert out.count("test accuracy") == 1 and err.count("epoch 1/2") == 1
    assert {file.name for file in two.path.iterdir()} == {file.name for file in one.path.iterdir()}
    assert two.classifier().predict(np.zeros((8, 8), np.uint8)).predicted_class in "0123456789"


def test_a_finished_run_is_returned_in_all_processes(pair):
    one, two, *_ = pair
    out, err = ended(launched(["-m", "image_classifier.cli", "train", *WORDS, "--out", str(two.path)]))
    assert "an equal run was already finished" in out and out.count("test accuracy") == 1


def test_any_number_of_processes_sees_the_same_batches():
    order = np.random.default_rng(0).permutation(1003)
    for count in (1, 2, 4):
        shares, lasts = zip(*(DistributedContext(rank, count).batch_rows(order, 100) for rank in range(count)))
        for start in range(0, 1000, 100):
            mine = slice(start // count, (start + 100) // count)
            assert np.concatenate([share[mine] for share in shares]).tolist() == order[start:start + 100].tolist()
        assert all(last.tolist() == order[1000:].tolist() for last in lasts)  # three images: all processes compute them


def test_a_run_of_two_processes_resumes_in_one_if_allowed(pair, tmp_path):
    "It is stopped by a signal and saved by the first process; resuming it in a single process must be allowed."
    place = tmp_path / "run"
    words = [*WORDS[:2], "epochs=200", *WORDS[3:], "early_stopping_patience=0", "--out", str(place)]
    process = launched(["-m", "image_classifier.cli", "train", *words])
    deadline = time.monotonic() + 120
    while not list(place.glob("history.jsonl")) or len((place / "history.jsonl").read_text().splitlines()) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert said.count("error: interrupted. resume with: torchrun --nproc-per-node 2 -m image_classifier.cli train data=digits") == 1
    state = json.loads((max((place / "checkpoints").glob("step_*")) / "state.json").read_text())
    assert state["made_with"]["processes"] == 2
    alone = {"capture_output": True, "text": True, "cwd": ROOT, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    command = [sys.executable, "-m", "image_classifier.cli", "train"]
    refused = subprocess.run([*command, *words], **alone)
    assert refused.returncode == 2 and "processes 2 then, 1 now" in refused.stderr
    before = (place / "history.jsonl").read_text().splitlines()
    stopped = subprocess.Popen([*command, *words, "allow=[change]"], text=True, stderr=subprocess.PIPE, cwd=ROOT, env=alone["env"])
    while len((place / "history.jsonl").read_text().splitlines()) < len(before) + 2:
        assert stopped.poll() is None and time.monotonic() < deadline + 120
        time.sleep(0.1)
    stopped.send_signal(signal.SIGTERM)
    assert "the run resumes with changes, so the result will not be bit-identical" in stopped.communicate(timeout=60)[1] and stopped.returncode == 143
    assert (place / "history.jsonl").read_text().splitlines()[:len(before) - 1] == before[:-1]


def test_processes_with_different_data_are_all_refused(tmp_path):
    "As on two machines with different files: here one process splits the images with another seed."
    script = """
import os, sys
from image_classifier.config import compose
from image_classifier.core import ConfigError
from image_classifier.data import load_data
from image_classifier.runs import new_model
from image_classifier.training import fit, training_arguments

config = compose(["data=digits", "epochs=1", "batch_size=2", "device=cpu"])
splits = load_data(compose(["data=digits", f"data.split_seed={os.environ['RANK']}"]).data)
try:
    fit(new_model(config, splits), splits, **training_arguments(config))
except ConfigError as problem:
    open(f"{sys.argv[1]}/{os.environ['RANK']}", "w").write(str(problem))
"""
    (tmp_path / "two.py").write_text(script)
    ended(launched([str(tmp_path / "two.py"), str(tmp_path)]))
    said = [(tmp_path / name).read_text() for name in "01"]
    assert all("see different data or checkpoints" in line for line in said) and said[0] != said[1]


def test_a_batch_size_not_divisible_by_the_processes_is_refused(tmp_path):
    process = launched(["-m", "image_classifier.cli", "train", *WORDS[:-2], "batch_size=101", "--out", str(tmp_path / "run")])
    out, err = process.communicate(timeout=120)
    assert process.returncode != 0 and "batch_size=101 cannot be shared by 2 processes" in err and "use batch_size=100" in err
    assert err.count("error: batch_size=101") == 1, "one of the processes says it"


@pytest.mark.parametrize("words, line", [(["data=digitz"], "error: unknown data"), (["data=./absent"], "error: no folder ./absent")])
def test_an_error_of_all_processes_is_printed_once(tmp_path, words, line):
    process = launched(["-m", "image_classifier.cli", "train", *words, "device=cpu", "--out", str(tmp_path / "run")])
    out, err = process.communicate(timeout=120)
    assert process.returncode != 0 and err.count(line) == 1, err


def test_accelerate_launch_of_a_single_process_gives_a_warning(tmp_path):
    found = subprocess.run([sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--cpu", "-m", "image_classifier.cli", "train",
                            *WORDS[:2], "epochs=1", "--out", str(tmp_path / "run")], capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0 and "accelerate launch started one process" in found.stderr
    assert torch.distributed.is_available() and Path(tmp_path / "run" / "metrics.json").exists()


def test_notebook_launcher_trains_in_two_processes(tmp_path):
    "Accelerate's launcher forks a process that has trained before."
    script = """
import os, sys
from accelerate import notebook_launcher
from image_classifier.config import compose
from image_classifier.runs import train

def training(*words):
    train(compose(words[:-1]), words[-1])
    if "RANK" in os.environ:
        open(f"{os.path.dirname(words[-1])}/rank{os.environ['RANK']}", "x").close()

if __name__ == "__main__":
    *words, alone, two, port = sys.argv[1:]
    training(*words, alone)
    notebook_launcher(training, (*words, two), num_processes=2, use_port=port)
"""
    (tmp_path / "cells.py").write_text(script)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*WORDS, str(tmp_path / "one"), str(tmp_path / "two"), str(port)]
    done = subprocess.run([sys.executable, str(tmp_path / "cells.py"), *words], text=True, capture_output=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    one, two = Run(tmp_path / "one"), Run(tmp_path / "two")
    assert two.metrics["test"]["accuracy"]["low"] <= one.metrics["test"]["accuracy"]["value"] <= two.metrics["test"]["accuracy"]["high"]
    assert sorted(file.name for file in tmp_path.glob("rank*")) == ["rank0", "rank1"]


def test_class_weights_and_the_choice_of_images_mean_the_same_in_two_processes(tmp_path):
    "The mean over a batch divides by the weights of all of its images, and hard images are chosen among all, whichever process has them."
    script = tmp_path / "weighted.py"
    script.write_text("""
import sys
import torch
from torch import nn
from image_classifier.config import AugmentConfig, Hyperparameters
from image_classifier.data import load_data
from image_classifier.training import fit, init_distributed, resolve_compute
compute, sums = resolve_compute("cpu", "float32"), []
for chosen in (dict(num_epochs=1, class_weights=["0:20", "1:0.1"], balanced_sampling=True), dict(num_epochs=2, hard_images=0.3)):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    hyper = Hyperparameters(batch_size=200, optimizer="sgd", gradient_accumulation=2, **chosen)
    fit(model, load_data("digits"), hyper, augment=AugmentConfig(translate=0.2), compute=compute)
    sums += model[1].weight.detach().double().flatten()[::40].tolist()
if compute.distributed.is_main:
    print("sum", *sums)
""")
    found = [[float(word) for word in ended(launched([str(script)], processes))[0].partition("sum")[2].split()] for processes in (1, 2)]
    assert len(found[0]) == 32 and np.allclose(*found, atol=1e-5)
