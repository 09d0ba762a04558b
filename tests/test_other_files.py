"Files that the library did not write are never deleted or replaced, whatever a command or a function is pointed at."
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from folders import pets, picture, save  # noqa: F401

from image_classifier.cli import app, main
from image_classifier.config import compose, DataConfig
from image_classifier.core import ConfigError, existing_folder, ImageClassifierError, locked, MANIFEST, own_folder, own_folder_kind
from image_classifier.core import remove_stale_temp
from image_classifier.data import cache, cache_entries, fetch, load_data, Preprocess, RemoteFile, remove_entry, unpack
from image_classifier.inference import Classifier
from image_classifier.models import Architecture, build_model
from image_classifier.quality import write_docs, Suite
from image_classifier.runs import run_report, train
from image_classifier.training import Checkpoint, Checkpoints, write_checkpoint

# Names that the library uses too, in folders of somebody else: (file, content).
NAMES = ("checks/photo.png", f"checks/{'a' * 32}-near.json", "mnist/train-images-idx3-ubyte.gz", "mnist/notes.txt", "fashion_mnist/x", "cifar10/y",
         f"decoded/{'b' * 32}/images.bin", f"decoded/{'b' * 32}/about.json", f"archives/{'c' * 32}/1.png", f"archives/{'c' * 32}.json",
         "config.yaml", "environment.json", "metrics.json", "history.jsonl", "images.safetensors", "report.html", "report.ipynb", "report.yaml",
         "classification_report.txt", "confusion_matrix.png", "predictions/test.safetensors", "classifier/README.md", "classifier/classifier.json",
         f"classifier/{MANIFEST}", "checkpoints/step_00000001/model.safetensors", "checkpoints/step_00000002/notes.txt", "label_errors.csv",
         "label_errors.txt", "label_errors.png", "suite.html", "validation.html", "suite.json", "private.pem", "public.pem", "model.sig", MANIFEST,
         "README.md", "model.safetensors", "state.json", ".lock", ".ic-lock", ".notes.ic-tools", ".ic-old", "runs/mine/1.png", "leave_out.txt",
         ".classifier.ic-tmp", "settings.ini.bak")


def content(root):
    "Return every file and link below a folder with its content."
    return {str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_bytes()
            for path in root.rglob("*") if path.is_symlink() or path.is_file()}


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    "The working folder: somebody's project, full of files with names that the library uses too."
    root = tmp_path / "theirs"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(f"mine: {name}".encode())
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / "thesis.txt").write_text("mine")
    (root / "link").symlink_to("elsewhere")
    monkeypatch.chdir(root)
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A finished run."
    return train(compose(["epochs=1", "device=cpu"]), tmp_path_factory.mktemp("runs") / "digits").path


def kept(root, before):
    "Return whether nothing was lost; new files are fine."
    after = content(root)
    return {name: after.get(name) for name in before} == before


COMMANDS = {
    "train here": "train epochs=1 device=cpu --out .",
    "train into a folder": "train epochs=1 device=cpu --out classifier",
    "train through a link": "train epochs=1 device=cpu --out link",
    "train on a file": "train epochs=1 device=cpu --out README.md",
    "train with the cache here": "train data={pets} data.cache_dir=. data.memory_limit=0 epochs=1 batch_size=8 device=cpu",
    "train on an archive with the cache here": "train data={zip} data.cache_dir=. epochs=1 batch_size=8 device=cpu",
    "resume what is no run": "train resume=. epochs=1 device=cpu",
    "train on a download": "train data=mnist data.cache_dir=. data.download=false epochs=1 device=cpu",
    "evaluate": "evaluate {run} --out metrics.json", "evaluate to a report": "evaluate {run} --out report.html",
    "evaluate in the run": "evaluate {run} --out {run}/metrics.json",
    "compare": "compare {run} {tmp}/other --out . --markdown README.md", "compare to the README": "compare {run} {tmp}/other --markdown README.md",
    "compare to a file of the run": "compare {run} {tmp}/other --markdown {run}/config.yaml", "compare into the run": "compare {run} {tmp}/other --out {run}",
    "report here": "report epochs=1 device=cpu --out .", "report into a folder": "report epochs=1 device=cpu --out predictions",
    "check, the list": "check data={pets} data.cache_dir=. --out README.md",
    "check, the pages": "check data={pets} data.cache_dir=. --suite new.json --docs .",
    "check, the suite": "check data={pets} data.cache_dir=. --suite suite.json",
    "labels review": "labels review data={pets} --out .", "labels review into a folder": "labels review data={pets} --out link",
    "cache": "cache data.cache_dir=.", "cache clear": "cache clear data.cache_dir=.",
    "cache clear by name": "cache clear checks data.cache_dir=.", "cache clear a download": "cache clear mnist data.cache_dir=.",
    "cache clear after use": "check data={pets} data.cache_dir=. data.memory_limit=0; cache clear data.cache_dir=.",
    "keygen": "keygen --out .", "keygen into a folder": "keygen --out elsewhere", "keygen on a file": "keygen --out private.pem",
    "sign": "keygen --out {tmp}/keys; sign . --key {tmp}/keys/private.pem", "verify": "verify . --key public.pem",
    "export": "export .", "export a classifier": "export classifier", "serve": "serve . --port 0",
    "explain": "explain {run} {pets} --out .", "explain into a folder": "explain {run} {pets} --out predictions",
    "learning-curve": "learning-curve data={pets} epochs=1 batch_size=8 device=cpu --out .",
    "find-lr": "find-lr data={pets} data.cache_dir=. batch_size=8 device=cpu --out confusion_matrix.png",
    "predict": "predict {run} .", "estimate": "estimate data={pets} data.cache_dir=. batch_size=8 device=cpu",
    "models": "models", "config": "config", "config keys": "config keys", "doctor": "doctor"}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_loses_a_file_of_somebody_else(theirs, run, pets, tmp_path, capsys, name):
    shutil.make_archive(str(tmp_path / "pets"), "zip", pets)
    before, of_run = content(theirs), content(run)
    for line in COMMANDS[name].split(";"):
        words = line.format(pets=pets, zip=tmp_path / "pets.zip", run=run, tmp=tmp_path).split()
        code = main(words)
        assert code in (0, 2, 3, 4), (words, capsys.readouterr().err)
        said = capsys.readouterr().err
        assert "internal error" not in said and len([line for line in said.splitlines() if line.startswith("error")]) == (code != 0)
    assert kept(theirs, before) and content(run) == of_run


def test_the_commands_above_are_all_commands():
    tried = {" ".join(line.split()[:2]) for lines in COMMANDS.values() for line in lines.split(";")}
    assert {name for name in app.COMMANDS if not any(f"{words} ".startswith(f"{name} ") for words in tried)} == set()


def tiny(seed=1):
    return Classifier(build_model(Architecture("simple_cnn", 1, 2, 8), seed=seed), Preprocess(8, 1, "stretch", (0.5,), (0.5,)), ("a", "b"))


def checkpoint(step):
    return Checkpoint(step, {"w": torch.zeros(2)}, {}, None, {"best_step": step})


def pruned(place):
    store = Checkpoints(place, keep=1)
    for step in (3, 4, 5):
        store.save(checkpoint(step))


WRITERS = {
    "Classifier.save": lambda place: tiny().save(place), "train": lambda place: train(compose(["epochs=1", "device=cpu"]), place),
    "run_report": lambda place: run_report(parameters={"epochs": 1}, run_dir=place),
    "write_checkpoint": lambda place: write_checkpoint(place / "checkpoints", checkpoint(1)), "Checkpoints": lambda place: pruned(place / "checkpoints"),
    "write_docs": lambda place: write_docs(Suite(1, ()), place), "remove_stale_temp": remove_stale_temp,
    "locked": lambda place: locked(place).__enter__(), "evict": lambda place: cache.evict(place, 1, limit=1),
    "own_folder": lambda place: own_folder(place, "cache"),
    "remove_entry": lambda place: [remove_entry(entry) for entry in cache_entries(place)],
    "fetch": lambda place: fetch([RemoteFile("train-images-idx3-ubyte.gz", "md5:0", ("http://127.0.0.1:9/",))], place / "mnist", attempts=1)}


@pytest.mark.filterwarnings("ignore:the training could not be saved")
@pytest.mark.parametrize("place", [".", "classifier", "checkpoints", "link", "README.md", "absent"])
@pytest.mark.parametrize("name", WRITERS)
def test_no_function_loses_a_file_of_somebody_else(theirs, name, place):
    before = content(theirs)
    if place == "absent" and name in ("train", "run_report"):
        pytest.skip("writes a run, as it should")
    try:
        WRITERS[name](theirs / place)
    except (ImageClassifierError, OSError) as problem:
        assert not isinstance(problem, OSError) or name in ("remove_stale_temp", "locked"), problem
    assert kept(theirs, before)


def test_unpacking_never_replaces_a_folder(theirs, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.png", b"new")
    before = content(theirs)
    for place in ("checks", "link", "README.md"):
        with pytest.raises(ConfigError):
            unpack(tmp_path / "a.zip", theirs / place)
    assert content(theirs) == before


def test_a_saved_classifier_is_replaced_but_not_what_was_put_beside_it(tmp_path):
    tiny(1).save(tmp_path / "model")
    tiny(2).save(tmp_path / "model")
    (tmp_path / "model" / "model.sig").write_text("a signature")
    tiny(1).save(tmp_path / "model")
    assert "model.sig" not in os.listdir(tmp_path / "model"), "it signed the classifier that was replaced"
    (tmp_path / "model" / "notes.txt").write_text("mine")
    before = content(tmp_path)
    with pytest.raises(ConfigError, match="the folder holds files that would be deleted: notes.txt"):
        tiny(2).save(tmp_path / "model")
    assert content(tmp_path) == before


@pytest.mark.parametrize("renames", [1, 2])
def test_a_classifier_survives_a_kill_between_the_two_renames_of_a_save(tmp_path, monkeypatch, renames):
    "A kill after the first rename leaves no folder of that name; after the second, the old one under its hidden name."
    tiny(1).save(tmp_path / "model")
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    old, new = (tiny(seed).predict(image).all_probabilities for seed in (1, 2))
    real, done = os.rename, []

    def rename(source, target):
        if len(done) == renames:
            os._exit(9)
        real(source, target)
        done.append(target)
        if len(done) == renames == 2:
            os._exit(9)
    if (child := os.fork()) == 0:
        os.rename = rename
        tiny(2).save(tmp_path / "model")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9 and (tmp_path / "model").exists() == (renames == 2)
    assert Classifier.load(tmp_path / "model").predict(image).all_probabilities == (old if renames == 1 else new)
    tiny(2).save(tmp_path / "model")
    assert Classifier.load(tmp_path / "model").predict(image).all_probabilities == new
    assert [name for name in os.listdir(tmp_path) if name.endswith(".ic-old")] == []


def test_the_command_finds_the_classifier_of_a_run_after_such_a_kill(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "classifier").rename(tmp_path / "run" / ".classifier.0123abcd.ic-old")
    save(tmp_path / "1.png", picture(1, mode="L"))
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "1.png")]) == 0, capsys.readouterr().err
    assert existing_folder(tmp_path / "run" / "classifier").name == ".classifier.0123abcd.ic-old"


def test_refused_data_leaves_no_folder_behind_and_a_run_is_never_data(pets, monkeypatch, capsys):
    "`cd pictures; ic train data=.`: the folder of runs that the command makes is no class of the pictures."
    monkeypatch.chdir(pets)
    (pets / "cat" / "broken.png").write_bytes(b"not an image")
    for out in ([], ["--out", "results/first"]):
        assert main(["train", "data=.", "epochs=1", "batch_size=8", "device=cpu", *out]) == 3
        assert sorted(os.listdir(pets)) == ["cat", "dog"]
    (pets / "cat" / "broken.png").unlink()
    assert main(["train", "data=.", "epochs=1", "batch_size=8", "device=cpu", "--out", "results/first"]) == 0, capsys.readouterr().err
    assert (own_folder_kind(pets / "results"), own_folder_kind(pets / "results" / "first")) == ("outputs", "run")


def test_the_cache_clears_what_it_wrote_beside_files_of_somebody_else(pets, tmp_path, capsys):
    load_data(DataConfig("folder", str(pets), cache_dir=str(tmp_path), memory_limit=0))
    entry, = cache_entries(tmp_path)
    (entry.place / "notes.txt").write_text("mine")
    assert main(["cache", "clear", f"data.cache_dir={tmp_path}"]) == 0
    assert os.listdir(entry.place) == ["notes.txt"]


def test_an_archive_that_another_process_reads_is_not_cleared(pets, tmp_path, capsys):
    shutil.make_archive(str(tmp_path / "pets"), "zip", pets)
    script = ("import sys; from image_classifier.config import DataConfig; from image_classifier.data import load_data\n"
              "load_data(DataConfig('folder', sys.argv[1], cache_dir=sys.argv[2])); print('on', flush=True); sys.stdin.read()")
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "pets.zip"), str(tmp_path / "cache")],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"on\n"
    entry, = cache_entries(tmp_path / "cache", ["unpacked archive"])
    assert entry.in_use() and not remove_entry(entry) and entry.place.is_dir()
    child.communicate()
    assert not entry.in_use()
    (mine := entry.place / "cat" / "mine.txt").write_text("mine")
    assert not remove_entry(entry) and mine.exists(), "it holds another file now"
    mine.unlink()
    assert remove_entry(entry) and not entry.place.exists()
