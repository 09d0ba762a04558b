"""Notebook, command line and Python give identical runs: otherwise their results could not be compared."""
import json
import os
import subprocess
import sys

import pytest
from literate import ROOT

from image_classifier.cli import main
from image_classifier.config import compose
from image_classifier.runs import train


@pytest.fixture(scope="module")
def same(tmp_path_factory):
    "Return the folders of one run of two epochs, made by papermill, `ic train` and `runs.train`."
    folder = tmp_path_factory.mktemp("same")
    command = [sys.executable, "-m", "papermill", "nbs/train.ipynb", str(folder / "out.ipynb"), "-p", "epochs", "2"]
    papermill = subprocess.run([*command, "-p", "run_dir", str(folder / "papermill")], cwd=ROOT, capture_output=True, text=True)
    assert papermill.returncode == 0, papermill.stderr
    assert main(["train", "epochs=2", "--out", str(folder / "shell")]) == 0
    train(compose(["epochs=2"]), folder / "python")
    return [folder / name for name in ("papermill", "shell", "python")]


def test_notebook_shell_and_python_give_equal_metrics(same):
    found = [{**json.loads((run / "metrics.json").read_text()), "time": None} for run in same]
    assert found[0] == found[1] == found[2] and found[0]["epochs"] == 2


@pytest.mark.parametrize("name", ["predictions/valid.safetensors", "predictions/test.safetensors", "classifier/model.safetensors",
                                  "config.yaml"])
def test_notebook_shell_and_python_write_equal_files(same, name):
    assert len({(run / name).read_bytes() for run in same}) == 1


def test_a_run_made_one_way_is_reused_by_the_others(same, capsys):
    assert train(compose(["epochs=2"]), same[0]).reused
    assert main(["train", "epochs=2", "--out", str(same[2]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reused"] is True


@pytest.mark.parametrize("threads", [1, 2])
def test_two_processes_with_equal_threads_give_bit_identical_files(threads, tmp_path):
    "They run concurrently, to compete for the cores, and with different hash seeds."
    command = [sys.executable, "-m", "image_classifier.cli", "train", "epochs=1", "device=cpu", "augment.rotation=10", "--out"]
    runs = [tmp_path / "first", tmp_path / "second"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    processes = [subprocess.Popen([*command, str(run)], stderr=subprocess.DEVNULL, env={**environment, "PYTHONHASHSEED": str(seed)})
                 for seed, run in enumerate(runs)]
    assert [process.wait() for process in processes] == [0, 0]
    assert [json.loads((run / "environment.json").read_text())["threads"] for run in runs] == [threads, threads]
    for name in ("classifier/model.safetensors", "predictions/valid.safetensors", "predictions/test.safetensors"):
        assert len({(run / name).read_bytes() for run in runs}) == 1
