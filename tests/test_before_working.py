"What a user waits for in vain: wrong requests are refused or named before any work begins."
import json
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import replace

import pytest
from torch import nn

from image_classifier.cli import main
from image_classifier.config import compose, to_yaml
from image_classifier.core import ArtifactError, ConfigError, load_tensors, own_folder, ResourceError
from image_classifier.core import errors as core_errors
from image_classifier.data import load_data
from image_classifier.runs import estimate_run, train
from image_classifier.training import fit, resolve_compute
from folders import pets, picture, save  # noqa: F401


@pytest.mark.parametrize("words, module", [
    (["labels", "review"], "cleanlab"), (["check", "--suite", "suite.json"], "great_expectations"), (["report"], "papermill"),
    (["report"], "nbconvert"), (["keygen"], "cryptography"), (["train", "model.library=timm", "model=resnet10t"], "timm"),
    (["estimate", "model.library=timm", "model=resnet10t"], "timm"), (["labels", "review", "model.library=timm", "model=resnet10t"], "timm")])
def test_missing_extra_is_named_before_data_is_read_or_folders_are_made(words, module, tmp_path, monkeypatch, capsys):
    real = core_errors.importlib.import_module

    def missing(name, *package):
        if name.startswith(module):
            raise ModuleNotFoundError(name=name.partition(".")[0])
        return real(name, *package)
    monkeypatch.setattr(core_errors.importlib, "import_module", missing)
    monkeypatch.setattr("image_classifier.data.load_source", None)
    monkeypatch.setattr("image_classifier.quality.check_source", None)
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert f"{module}" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["fifo", "device", "link to a device", "folder", "another file"])
def test_list_of_check_is_not_written_over_something_else(kind, tmp_path, monkeypatch, capsys):
    path = tmp_path / "list.txt"
    {"fifo": os.mkfifo, "link to a device": lambda path: path.symlink_to("/dev/zero"), "folder": os.mkdir,
     "another file": lambda path: path.write_text("mine"), "device": lambda path: None}[kind](path)
    monkeypatch.setattr("image_classifier.quality.check_source", None)
    began = time.monotonic()
    assert main(["check", "--out", "/dev/zero" if kind == "device" else str(path)]) == 2
    assert time.monotonic() - began < 5 and "error: " in capsys.readouterr().err
    assert kind != "another file" or path.read_text() == "mine"


@pytest.mark.parametrize("header", ["many tensors", "long header"])
def test_safetensors_file_with_a_huge_header_is_refused_at_once(header, tmp_path):
    if header == "many tensors":
        entry = '"{0}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
        text = "{" + ",".join(entry.format(number) for number in range(200_000)) + "}"
    else:
        text = json.dumps({"__metadata__": {"text": "x" * (17 << 20)}})
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode())
    began = time.monotonic()
    with pytest.raises(ArtifactError, match="50,000 tensors, or a header of more than 16 MB"):
        load_tensors(path)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("work", [lambda config, folder: train(config, folder / "run"), lambda config, folder: estimate_run(config)])
@pytest.mark.parametrize("model", ["simple_cnn", "resnet18"])
def test_images_too_large_for_the_memory_are_refused_before_they_are_decoded(work, model, tmp_path, monkeypatch):
    monkeypatch.setattr("image_classifier.runs.running.load_data", None)
    monkeypatch.setattr("image_classifier.runs.running.available_memory", lambda device: 16_000_000_000)
    with pytest.raises(ResourceError, match="at 4096 px needs about .* GB of memory, 16 GB are there"):
        work(compose(["data.size=4096", f"model={model}", f"data.cache_dir={tmp_path}"]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_more_threads_than_cores_are_named():
    with pytest.warns(UserWarning, match=r"1000 threads on \d+ cores? make each step slower: use threads=\d+"):
        resolve_compute("cpu", threads=1000)


def test_more_parts_than_images_in_a_batch_are_refused():
    with pytest.raises(ConfigError, match=r"gradient_accumulation must be <= batch_size \(64\), got 1000"):
        compose(["hyperparameters.gradient_accumulation=1000"])


@pytest.mark.parametrize("parts, said", [(64, "sees 1 image at a time"), (16, "sees 4 images at a time"), (8, ""), (1, "")])
def test_batch_normalization_of_small_parts_is_named(parts, said, recwarn):
    config = compose(["epochs=1", f"hyperparameters.gradient_accumulation={parts}"])
    splits = load_data("digits")
    splits = replace(splits, train=splits.train.select(range(128)))
    for norm, expected in ((nn.BatchNorm1d(8), said), (nn.LayerNorm(8), "")):
        recwarn.clear()
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), norm, nn.Linear(8, 10))
        if parts == 64 and expected:
            with pytest.raises(ConfigError, match="too small for batch normalization"):
                fit(model, splits, config.hyperparameters)
        else:
            fit(model, splits, config.hyperparameters)
        lines = [str(warning.message) for warning in recwarn if "batch normalization" in str(warning.message)]
        assert bool(lines) == bool(expected) and all(expected in line for line in lines)


@pytest.mark.parametrize("before, given, after", [("", "", "passive"), ("", "active", "active"), ("import torch; ", "", "None")])
def test_threads_wait_passively_on_shared_cores_unless_the_user_says_otherwise(before, given, after):
    code = before + "import os; from image_classifier.cli import main; main(['config']); print(os.environ.get('OMP_WAIT_POLICY'))"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | ({"OMP_WAIT_POLICY": given} if given else {})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == after


@pytest.mark.parametrize("kind", ["folder of others", "file", "other run", "cache"])
def test_estimate_looks_at_the_folder_of_the_run_before_it_reads_data(kind, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "folder of others":
        (out / "holiday").mkdir(parents=True)
    else:
        own_folder(out, "cache" if kind == "cache" else "run")
    if kind == "other run":
        (out / "config.yaml").write_text(to_yaml(compose(["seed=7"])))
        (out / "history.jsonl").write_text("")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("image_classifier.runs.running.load_data", None)
    assert main(["estimate", "--out", str(out)]) == 2
    assert str(out) in capsys.readouterr().err and sorted(tmp_path.rglob("*")) == before


def test_estimate_with_a_folder_that_fits_leaves_no_trace(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for out, minutes in (("new/run", "0"), ("empty", "0.0001")):
        assert main(["estimate", "epochs=1", f"max_minutes={minutes}", "--out", str(tmp_path / out)]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("max_minutes=0.0001 is less than one epoch takes") == 1
    assert "1 epoch of" in printed.out and sorted(tmp_path.rglob("*")) == [tmp_path / "empty"]


@pytest.mark.parametrize("content", ['{"format": 99, "expectations": []}', "not json", "folder", "fifo"])
def test_a_file_that_is_no_suite_is_refused_before_the_check(content, tmp_path, monkeypatch, capsys):
    suite = tmp_path / "suite.json"
    {"folder": suite.mkdir, "fifo": lambda: os.mkfifo(suite)}.get(content, lambda: suite.write_text(content))()
    monkeypatch.setattr("image_classifier.quality.check_source", None)
    assert main(["check", "data=digits", "--suite", str(suite), "--docs", str(tmp_path / "docs")]) == 4
    assert str(suite) in capsys.readouterr().err and not (tmp_path / "docs").exists()


@pytest.mark.parametrize("words", [["labels", "review", "--out"], ["check", "--suite", "suite.json", "--docs"]])
def test_data_that_is_refused_leaves_no_output_folder(words, pets, tmp_path, monkeypatch, capsys):
    (pets / "cat" / "broken.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert main([*words, "new/out", f"data={pets}", f"data.cache_dir={tmp_path}/cache"]) == 3
    assert "training refuses this without allow=[corrupt]: 1 empty file" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


def test_evaluate_looks_at_its_output_before_it_loads_the_classifier(tmp_path, monkeypatch, capsys):
    (tmp_path / "run" / "classifier").mkdir(parents=True)
    (tmp_path / "notes.json").write_text("{}")
    monkeypatch.setattr("image_classifier.inference.Classifier.load", None)
    assert main(["evaluate", str(tmp_path / "run"), "--out", str(tmp_path / "notes.json")]) == 2
    assert "would be replaced" in capsys.readouterr().err


def test_labels_review_says_which_network_of_how_many_is_trained(pets, tmp_path, capsys):
    pytest.importorskip("cleanlab")
    for name in ("cat", "dog"):
        for seed in range(10, 30):
            save(pets / name / f"more{seed}.png", picture(seed + 100 * (name == "dog")))
    assert main(["labels", "review", f"data={pets}", "epochs=1", f"data.cache_dir={tmp_path}/cache", "--out", str(tmp_path / "out")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("network ")]
    assert lines == [f"network {number} of 5" for number in range(1, 6)]


def test_estimate_of_a_large_archive_ends_at_once_when_it_is_terminated(tmp_path):
    save(tmp_path / "one.png", picture(1))
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{'cat' if number % 2 else 'dog'}/{number}.png", (tmp_path / "one.png").read_bytes())
    words = ["estimate", f"data={tmp_path / 'pets.zip'}", f"data.cache_dir={tmp_path / 'cache'}"]
    process = subprocess.Popen([sys.executable, "-m", "image_classifier.cli", *words], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("cache/archives/.*/*/*.png")):  # it is being unpacked
        time.sleep(0.05)
    began = time.monotonic()
    process.terminate()
    assert "interrupted" in process.communicate(timeout=60)[1] and process.returncode == 143
    assert time.monotonic() - began < 10 and not list(tmp_path.glob("cache/archives/*.png"))
    assert not list(tmp_path.glob("cache/archives/*.ic-tmp"))
