"What a user loses when a run folder is not what it seems: numbers that cannot be made again, results of other data, a night's work."
import hashlib
import json
import shutil
import signal
import subprocess
from dataclasses import replace
from functools import cache

import pytest
import torch
from folders import pets, picture, save  # noqa: F401

from image_classifier.config import compose
from image_classifier.core import ArtifactError, atomic_write, ConfigError, DataError, DivergedError
from image_classifier.data import load_data
from image_classifier.runs import git_commit, Run, train
from image_classifier.training import Callback, snapshot


@cache
def digits():
    "64 digits to learn from, 32 to choose by and 16 to be measured on."
    splits = load_data("digits")
    return replace(splits, train=splits.train.select(range(64)), valid=splits.valid.select(range(32)), test=splits.test.select(range(16)))


def configured(*overrides):
    return compose(["epochs=2", "batch_size=32", "device=cpu", *overrides])


def weights_of(run):
    return hashlib.sha256((run.path / "classifier" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "A run of two epochs that nothing disturbed; it is not to be changed."
    return train(configured(), tmp_path_factory.mktemp("runs") / "whole", splits=digits())


class InEpoch(Callback):
    "Does something after the first step of an epoch (from 1)."
    def __init__(self, epoch, action):
        self.epoch, self.action = epoch, action

    def on_step_end(self, state):
        if state.step == (self.epoch - 1) * state.setup.steps_per_epoch + 1:
            self.action(state)


def interrupt(state):
    raise KeyboardInterrupt


def fail(state):
    raise OSError("no space left on device")


# the same again


def test_same_seed_gives_the_same_weights_and_numbers_and_another_seed_does_not(whole, tmp_path):
    torch.manual_seed(99)
    again, other = (train(configured(f"seed={seed}"), tmp_path / str(seed), splits=digits()) for seed in (42, 43))
    assert weights_of(again) == weights_of(whole) != weights_of(other)
    for name in ("valid", "test"):
        assert again.metrics[name] == whole.metrics[name]
        assert (again.path / "predictions" / f"{name}.safetensors").read_bytes() == (whole.path / "predictions" / f"{name}.safetensors").read_bytes()


def test_stored_configuration_makes_the_same_run_and_each_epoch_is_written_as_it_ends(whole, tmp_path):
    rows, reader = [], Callback()
    reader.on_epoch_end = lambda state: rows.append([json.loads(line)["epoch"] for line in (tmp_path / "history.jsonl").read_text().splitlines()])
    assert weights_of(train(compose(file=whole.path / "config.yaml"), tmp_path, callbacks=[reader], splits=digits())) == weights_of(whole)
    assert rows == [[1], [1, 2]]


# what is in a folder stays


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_finished_run_is_not_touched_by_being_asked_for(whole):
    before = content(whole.path)
    assert train(configured(), whole.path, splits=digits()).reused
    with pytest.raises(ConfigError, match="the run folder is not empty.*resume=auto"):
        train(configured(), whole.path, resume="never", splits=digits())
    with pytest.raises(ConfigError, match="hyperparameters.num_epochs 2 there, 3 now; seed 42 there, 7 now"):
        train(compose(["epochs=3", "batch_size=32", "device=cpu", "seed=7"]), whole.path, splits=digits())
    assert content(whole.path) == before


def test_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("the only copy")
    for resume in ("auto", "never"):
        with pytest.raises(ConfigError, match="not a run folder, and not empty"):
            train(configured(), tmp_path, resume=resume, splits=digits())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name, damage", [
    ("classifier/model.safetensors", lambda data: data[:-8] + bytes(8)),
    ("classifier/model.safetensors", lambda data: data[:100]),
    ("classifier/classifier.json", lambda data: data.replace(b'"0"', b'"O"')),
    ("classifier/MANIFEST.json", lambda data: b"{}"),
    ("predictions/test.safetensors", lambda data: data[:100]),
    ("metrics.json", lambda data: data[:100]),
    ("metrics.json", lambda data: b"[]"),
    ("metrics.json", lambda data: data.replace(b'"best_epoch": ', b'"best_epoch": 1')),
    ("history.jsonl", lambda data: data.splitlines(keepends=True)[0]),
    ("history.jsonl", lambda data: b'{"epoch": 1}\n'),
    ("history.jsonl", lambda data: b"[1]\n"),
])
def test_damaged_run_is_not_handed_out_as_finished(whole, tmp_path, name, damage):
    shutil.copytree(whole.path, tmp_path / "run")
    assert train(configured(), tmp_path / "run", splits=digits()).reused
    path = tmp_path / "run" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactError) as caught:
        train(configured(), tmp_path / "run", splits=digits())
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)


def test_predictions_that_were_exchanged_are_noticed(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    shutil.copy(whole.path / "predictions" / "valid.safetensors", tmp_path / "run" / "predictions" / "test.safetensors")
    with pytest.raises(ArtifactError, match="the predictions do not give the measures"):
        train(configured(), tmp_path / "run", splits=digits())


@pytest.mark.parametrize("text", ["[]", '{"data_fingerprint": 7}'])
def test_run_made_of_unknown_data_is_not_gone_on_with(whole, tmp_path, text):
    shutil.copytree(whole.path, tmp_path / "run")
    (tmp_path / "run" / "environment.json").write_text(text)
    with pytest.raises(DataError, match="the data has changed since the run was made"):
        train(configured(), tmp_path / "run", splits=digits())


def test_results_of_other_data_are_refused(pets, tmp_path):  # noqa: F811
    config = compose([f"data={pets}", "epochs=1", "batch_size=8", "device=cpu"])
    train(config, tmp_path / "run")
    assert train(config, tmp_path / "run").reused
    save(pets / "cat" / "0.png", picture(999))
    with pytest.raises(DataError, match="the data has changed since the run was made: cat/0.png is another") as caught:
        train(config, tmp_path / "run")
    assert caught.value.exit_code == 3


# runs that end early


def test_interrupted_run_leaves_history_and_the_classifier_of_its_best_epoch(tmp_path):
    best = []
    keep = Callback()
    keep.on_epoch_end = lambda state: best.append(snapshot(state.model))
    with pytest.raises(KeyboardInterrupt):
        train(configured(), tmp_path / "run", callbacks=[keep, InEpoch(2, lambda state: signal.raise_signal(signal.SIGINT))], splits=digits())
    run = Run(tmp_path / "run")
    assert not run.finished and [result.epoch for result in run.history] == [1] and len(best) == 1
    assert all(torch.equal(tensor, best[0][name]) for name, tensor in run.classifier().model.state_dict().items())
    assert len(run.classifier().predict(digits().test.images[0]).all_probabilities) == 10


def test_run_interrupted_before_its_first_epoch_has_no_classifier(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(configured(), tmp_path / "run", callbacks=[InEpoch(1, interrupt)], splits=digits())
    assert not (tmp_path / "run" / "classifier").exists() and not Run(tmp_path / "run").finished


@pytest.mark.parametrize("epoch, action, error", [(1, interrupt, KeyboardInterrupt), (2, fail, OSError)])
def test_run_that_was_stopped_ends_as_it_would_have(whole, tmp_path, epoch, action, error):
    with pytest.raises(error):
        train(configured(), tmp_path / "run", callbacks=[InEpoch(epoch, action)], splits=digits())
    run = train(configured(), tmp_path / "run", splits=digits())
    assert run.finished and not run.reused and weights_of(run) == weights_of(whole)
    assert run.metrics["test"] == whole.metrics["test"] and [result.epoch for result in run.history] == [1, 2]
    assert sorted(path.name for path in run.path.iterdir()) == sorted(path.name for path in whole.path.iterdir())


def test_diverged_run_leaves_finite_weights_and_its_history(tmp_path):
    def poison(state):
        next(state.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"loss is not finite at step 3 \(epoch 2, learning rate 0.001\)"):
        train(configured(), tmp_path / "run", callbacks=[InEpoch(2, poison)], splits=digits())
    run = Run(tmp_path / "run")
    assert not run.finished and len(run.history) == 1
    assert all(torch.isfinite(tensor).all() for tensor in run.classifier().model.state_dict().values())



def test_noting_the_commit_runs_nothing_that_a_folder_brings_along(tmp_path, monkeypatch):
    "A folder from elsewhere may hold a .git whose hooks and filters are programs."
    canary = tmp_path / "canary"
    for words in (["init", "-q"], ["config", "core.fsmonitor", f"touch {canary}; false"], ["config", "filter.x.clean", f"touch {canary}; cat"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.chdir(tmp_path)
    assert git_commit() is None and not canary.exists()


def test_figures_are_never_written_through_a_link(tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    (tmp_path / "confusion_matrix.png").symlink_to(precious)
    with pytest.raises(ConfigError, match="not a regular file"):
        atomic_write(tmp_path / "confusion_matrix.png", b"a figure")
    assert precious.read_text() == "mine"
