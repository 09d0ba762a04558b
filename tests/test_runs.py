"Run folders: reproducible results, refusal of other or damaged runs, and results that survive an interruption."
import hashlib
import json
import shutil
import signal
import subprocess
import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from folders import pets, picture, save  # noqa: F401

from image_classifier.config import compose, ModelConfig
from image_classifier.core import ArtifactError, ConfigError, DataError, DivergedError, MARKER, atomic_write, write_json, write_manifest
from image_classifier.data import load_data
from image_classifier.inference import Classifier
from image_classifier.metrics import compute_metrics, evaluate, load_predictions
from image_classifier.models import Architecture, build_model
from image_classifier.runs import Run, git_commit, train
from image_classifier.runs.initial_weights import adopt_preprocess, check_test_unseen, load_initial_weights
from image_classifier.runs.run_folder import default_run_dir
from image_classifier.runs.seen_images import count_seen_tests
from image_classifier.training import Callback, snapshot


@cache
def digits():
    "Return splits with 64 training, 32 validation and 16 test digits."
    splits = load_data("digits")
    sizes = {"train": 64, "valid": 32, "test": 16}
    return replace(splits, **{part: getattr(splits, part).select(range(size)) for part, size in sizes.items()})


def configured(*overrides):
    return compose(["epochs=2", "batch_size=32", "device=cpu", *overrides])


def weights_of(run):
    return hashlib.sha256((run.path / "classifier" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "Return an uninterrupted run of two epochs; tests must not change it."
    return train(configured(), tmp_path_factory.mktemp("runs") / "whole", splits=digits())


class InEpoch(Callback):
    "Calls `action` after the first step of an epoch (from 1)."
    def __init__(self, epoch, action):
        self.epoch, self.action = epoch, action

    def on_step_end(self, state):
        if state.step == (self.epoch - 1) * state.setup.steps_per_epoch + 1:
            self.action(state)


def interrupt(state):
    raise KeyboardInterrupt


def fail(state):
    raise OSError("no space left on device")


# reproducible results


def test_same_seed_gives_the_same_weights_and_metrics_and_another_seed_does_not(whole, tmp_path):
    torch.manual_seed(99)
    again, other = (train(configured(f"seed={seed}"), tmp_path / str(seed), splits=digits()) for seed in (42, 43))
    assert weights_of(again) == weights_of(whole) != weights_of(other)
    for name in ("valid", "test"):
        assert again.metrics[name] == whole.metrics[name]
        file = f"predictions/{name}.safetensors"
        assert (again.path / file).read_bytes() == (whole.path / file).read_bytes()


def test_stored_configuration_gives_the_same_run_and_history_is_written_each_epoch(whole, tmp_path):
    rows, reader, path = [], Callback(), tmp_path / "history.jsonl"
    reader.on_epoch_end = lambda state: rows.append([json.loads(line)["epoch"] for line in path.read_text().splitlines()])
    again = train(compose(file=whole.path / "config.yaml"), tmp_path, callbacks=[reader], splits=digits())
    assert weights_of(again) == weights_of(whole)
    assert rows == [[1], [1, 2]]


# files in a folder are kept


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_requesting_a_finished_run_changes_no_file(whole):
    before = content(whole.path)
    assert train(configured(), whole.path, splits=digits()).reused
    with pytest.raises(ConfigError, match="the run folder is not empty.*resume=auto"):
        train(configured(), whole.path, resume="never", splits=digits())
    with pytest.raises(ConfigError, match="hyperparameters.num_epochs 2 there, 3 now; seed 42 there, 7 now"):
        train(compose(["epochs=3", "batch_size=32", "device=cpu", "seed=7"]), whole.path, splits=digits())
    assert content(whole.path) == before


def test_folder_with_other_files_is_refused_and_not_changed(tmp_path):
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
def test_damaged_finished_run_is_refused(whole, tmp_path, name, damage):
    shutil.copytree(whole.path, tmp_path / "run")
    assert train(configured(), tmp_path / "run", splits=digits()).reused
    path = tmp_path / "run" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactError) as caught:
        train(configured(), tmp_path / "run", splits=digits())
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)


def test_swapped_predictions_are_refused(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    shutil.copy(whole.path / "predictions" / "valid.safetensors", tmp_path / "run" / "predictions" / "test.safetensors")
    with pytest.raises(ArtifactError, match="the predictions do not match the metrics"):
        train(configured(), tmp_path / "run", splits=digits())


@pytest.mark.parametrize("text", ["[]", '{"data_fingerprint": 7}'])
def test_run_with_unknown_data_fingerprint_is_refused(whole, tmp_path, text):
    shutil.copytree(whole.path, tmp_path / "run")
    (tmp_path / "run" / "environment.json").write_text(text)
    with pytest.raises(DataError, match="the data has changed since the run was made"):
        train(configured(), tmp_path / "run", splits=digits())


def test_results_of_changed_data_are_refused(pets, tmp_path):
    config = compose([f"data={pets}", "epochs=1", "batch_size=8", "device=cpu"])
    train(config, tmp_path / "run")
    assert train(config, tmp_path / "run").reused
    save(pets / "cat" / "0.png", picture(999))
    with pytest.raises(DataError, match="the data has changed since the run was made: cat/0.png has changed") as caught:
        train(config, tmp_path / "run")
    assert caught.value.exit_code == 3


# interrupted runs


def test_interrupted_run_keeps_its_history_and_the_classifier_of_its_best_epoch(tmp_path):
    best = []
    keep = Callback()
    keep.on_epoch_end = lambda state: best.append(snapshot(state.model))
    interrupted = InEpoch(2, lambda state: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(configured(), tmp_path / "run", callbacks=[keep, interrupted], splits=digits())
    run = Run(tmp_path / "run")
    assert not run.finished and [result.epoch for result in run.history] == [1] and len(best) == 1
    assert all(torch.equal(tensor, best[0][name]) for name, tensor in run.classifier().model.state_dict().items())
    assert len(run.classifier().predict(digits().test.images[0]).all_probabilities) == 10


def test_run_interrupted_before_its_first_epoch_has_no_classifier(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(configured(), tmp_path / "run", callbacks=[InEpoch(1, interrupt)], splits=digits())
    assert not (tmp_path / "run" / "classifier").exists() and not Run(tmp_path / "run").finished


@pytest.mark.parametrize("epoch, action, error", [(1, interrupt, KeyboardInterrupt), (2, fail, OSError)])
def test_resumed_run_equals_an_uninterrupted_run(whole, tmp_path, epoch, action, error):
    with pytest.raises(error):
        train(configured(), tmp_path / "run", callbacks=[InEpoch(epoch, action)], splits=digits())
    run = train(configured(), tmp_path / "run", splits=digits())
    assert run.finished and not run.reused and weights_of(run) == weights_of(whole)
    assert run.metrics["test"] == whole.metrics["test"] and [result.epoch for result in run.history] == [1, 2]
    assert sorted(path.name for path in run.path.iterdir()) == sorted(path.name for path in whole.path.iterdir())


def test_diverged_run_keeps_finite_weights_and_its_history(tmp_path):
    def poison(state):
        next(state.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"loss is not finite at step 3 \(epoch 2, learning rate 0.001\)"):
        train(configured(), tmp_path / "run", callbacks=[InEpoch(2, poison)], splits=digits())
    run = Run(tmp_path / "run")
    assert not run.finished and len(run.history) == 1
    assert all(torch.isfinite(tensor).all() for tensor in run.classifier().model.state_dict().values())


# where runs go


def test_run_without_a_folder_goes_to_the_project_and_failed_loading_leaves_no_folder(pets, tmp_path, monkeypatch):
    project = tmp_path / "project"
    (project / "below").mkdir(parents=True)
    (project / "settings.ini").write_text("[DEFAULT]\nlib_name = literate-image-classifier\n")
    monkeypatch.chdir(project / "below")
    save(pets / "cat" / "broken.png", picture(1))
    (pets / "cat" / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError):
        train(compose([f"data={pets}", "epochs=1", "device=cpu"]))
    assert not (project / "runs").exists()
    run = train(configured(), splits=digits())
    assert [run.path.name] == [path.name for path in (project / "runs").glob("[!.]*")]


# environment and files


def test_reading_the_git_commit_runs_no_hook_or_filter(tmp_path, monkeypatch):
    "A downloaded folder may contain a .git whose hooks and filters are programs."
    canary = tmp_path / "canary"
    settings = {"core.fsmonitor": f"touch {canary}; false", "filter.x.clean": f"touch {canary}; cat"}
    for command in (["init", "-q"], *(["config", *setting] for setting in settings.items())):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.chdir(tmp_path)
    assert git_commit() is None and not canary.exists()


def test_figures_are_not_written_through_a_symbolic_link(tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    (tmp_path / "confusion_matrix.png").symlink_to(precious)
    with pytest.raises(ConfigError, match="not a regular file"):
        atomic_write(tmp_path / "confusion_matrix.png", b"a figure")
    assert precious.read_text() == "mine"


# ---------------------------------------------------------------- images that belong together

def patients(root, n=20, images=6):
    "Write images of patients, six each, and their table."
    lines = ["file,label,patient"]
    for patient in range(n):
        for i in range(images):
            save(root / f"{patient}_{i}.png", picture([patient, i]))
            lines.append(f"{patient}_{i}.png,{'ab'[patient % 2]},{patient}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return root / "table.csv"


def test_groups_are_stored_with_the_predictions_and_widen_the_intervals(tmp_path, recwarn):
    config = compose([f"data={patients(tmp_path / 'd')}", "data.group_column=patient", "epochs=1", "hyperparameters=fast", "batch_size=16",
                      "check_near_duplicates=false"])
    run = train(config, tmp_path / "run")
    evaluation, data = run.evaluation("test"), load_data(config.data).test
    groups = np.array(data.groups)
    assert len(np.unique(evaluation.units)) == len(set(data.groups)) < len(data)
    assert all(len(set(groups[evaluation.units == unit])) == 1 for unit in np.unique(evaluation.units))
    stored = run.metrics["test"]
    assert stored["units"]["count"] == len(set(data.groups)) and stored["units"]["effective_images"] <= len(data)
    plain = compute_metrics(evaluation.logits, evaluation.targets, evaluation.classes)
    assert stored["accuracy"]["value"] == plain["accuracy"]["value"]
    assert stored["accuracy"]["high"] - stored["accuracy"]["low"] > plain["accuracy"]["high"] - plain["accuracy"]["low"]
    assert load_predictions(run.path / "predictions" / "test.safetensors", evaluation.classes).metrics == stored, "computed again"
    assert not [one for one in recwarn if "independent" in str(one.message)]
    assert "groups count as" in (run.path / "classification_report.txt").read_text()


def test_equal_test_images_count_once_in_the_intervals():
    splits = load_data("digits")
    once = splits.test.select(range(100))
    twice = splits.test.select(np.repeat(range(100), 2))
    model = build_model(Architecture("simple_cnn", 1, 10, 8), seed=0)
    one, two = (evaluate(model, data, splits.preprocess).metrics for data in (once, twice))
    assert one["units"] is None and two["units"]["count"] == 100
    for end in ("low", "high"):
        assert two["accuracy"][end] == pytest.approx(one["accuracy"][end], abs=0.01)
        assert two["recall_macro"][end] == pytest.approx(one["recall_macro"][end], abs=0.03)


# more epochs, and a start from earlier weights


def weights(run):
    return (run.path / "classifier" / "model.safetensors").read_bytes()


def settled(run):
    return {name: value for name, value in run.metrics.items() if name != "time"}


def continued(folder, *words):
    return train(compose([f"resume={folder}", *words]))


def begin(folder, *words):
    return train(compose(["epochs=2", "batch_size=256", "device=cpu", "seed=3", "early_stopping_patience=0", *words]), folder)


def test_a_finished_run_continues_with_more_epochs_as_if_it_had_them_from_the_start(tmp_path):
    first, whole = begin(tmp_path / "run"), train(compose(["epochs=4", "batch_size=256", "device=cpu", "seed=3", "early_stopping_patience=0"]), tmp_path / "whole")
    created = first.metrics
    run = continued(tmp_path / "run", "epochs=4")
    assert run.path == tmp_path / "run" and (created["epochs"], run.metrics["epochs"]) == (2, 4)
    assert settled(run) == settled(whole) and weights(run) == weights(whole)
    assert run.status_message.startswith("the finished run was continued from step ")
    assert continued(tmp_path / "run", "epochs=4").reused and run.config == whole.config


def test_a_continued_run_that_is_killed_is_unfinished_and_resumes(tmp_path):
    class Kill(Callback):
        def on_epoch_start(self, state):
            if state.epoch == 3:
                raise RuntimeError("killed")
    begin(tmp_path / "run")
    with pytest.raises(RuntimeError):
        train(compose([f"resume={tmp_path / 'run'}", "epochs=4"]), callbacks=[Kill()])
    assert not Run(tmp_path / "run").finished
    assert continued(tmp_path / "run", "epochs=4").metrics["epochs"] == 4


@pytest.mark.parametrize("words, line", [(["epochs=1"], "num_epochs 2 there, 1 now"), (["epochs=4", "seed=9"], "seed 3 there, 9 now"),
                                         (["lr=0.1"], "learning_rate 0.001 there, 0.1 now")])
def test_only_more_epochs_continue_a_finished_run(tmp_path, words, line):
    run = begin(tmp_path / "run")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=line):
        continued(run.path, *words)
    with pytest.raises(ConfigError, match="num_epochs 2 there, 4 now.*or continue this run with resume=FOLDER"):
        begin_again = compose(["epochs=4", "batch_size=256", "device=cpu", "seed=3", "early_stopping_patience=0"])
        train(begin_again, run.path)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_a_run_that_stopped_early_says_what_more_epochs_need(tmp_path):
    class Spoiler(Callback):
        def on_epoch_start(self, state):
            for weight in state.model.parameters() if state.epoch else []:
                weight.data.mul_(0)
    run = train(compose(["epochs=9", "batch_size=256", "early_stopping_patience=2"]), tmp_path / "run", callbacks=[Spoiler()])
    assert len(run.history) == 3
    with pytest.raises(ConfigError, match="2 epochs brought no lower validation loss.*also set early_stopping_patience=0"):
        continued(run.path, "epochs=20")
    assert len(continued(run.path, "epochs=10", "early_stopping_patience=4").history) >= 4


def test_a_run_without_checkpoints_is_not_started_over(tmp_path):
    run = begin(tmp_path / "run")
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(ArtifactError, match="no checkpoint to continue from.*start from its weights instead, with model.weights"):
        continued(run.path, "epochs=4")
    assert run.finished


def test_a_run_cut_short_by_its_budget_continues(tmp_path):
    class Late(Callback):
        def on_step_end(self, state):
            if state.step == 8:
                state.schedule = replace(state.schedule, deadline=0.0)
    run = train(compose(["epochs=2", "batch_size=256", "device=cpu", "max_minutes=9", "checkpoint.every_steps=8"]), tmp_path / "run", callbacks=[Late()])
    assert [epoch.step for epoch in run.history] == [6, 8]
    more = continued(run.path, "epochs=4", "max_minutes=0")
    assert [epoch.step for epoch in more.history] == [6, 8, 18, 24]


def test_training_starts_from_the_weights_of_a_run_and_keeps_its_head_for_the_same_classes_only(tmp_path):
    first = train(compose(["epochs=3", "seed=3"]), tmp_path / "first")
    frozen = ["epochs=1", "lr=1e-30", "hyperparameters.weight_decay=0", "hyperparameters.optimizer=sgd"]
    same = train(compose([*frozen, f"model.weights={first.path}"]), tmp_path / "same")
    own, given = (run.classifier().model.state_dict() for run in (same, first))
    assert all(torch.allclose(own[name], given[name]) for name in given if "running" not in name and "num_batches" not in name)
    assert json.loads((same.path / "environment.json").read_text())["initial_weights"]
    with pytest.raises(ConfigError, match="the weights are those of simple_cnn, the network is resnet.*use model=simple_cnn"):
        train(compose([*frozen, "model=resnet", f"model.weights={first.path}"]), tmp_path / "other")


@pytest.mark.parametrize("beside", [True, False])
def test_a_weights_file_is_what_its_folder_is_and_by_itself_says_what_is_assumed(tmp_path, caplog, beside):
    network, splits = Architecture("resnet18", channels=1, classes=10, size=8), digits()
    given, preprocess = build_model(network, seed=1), replace(splits.preprocess, mean=(0.3,), std=(0.7,))
    Classifier(given, preprocess, splits.classes).save(tmp_path / "classifier")
    path = tmp_path / "classifier" / "model.safetensors"
    path = path if beside else shutil.copy(path, tmp_path / "mine.safetensors")
    with caplog.at_level("INFO", "image_classifier"):
        found = adopt_preprocess(splits, ModelConfig(name="resnet18", weights=str(path))).preprocess
    assert (found.mean == (0.3,)) == beside and len(caplog.messages) == (not beside)
    assert beside or "mine.safetensors were normalized is not known; assumed: as for torchvision's ImageNet weights" in caplog.text
    for classes, head in ((splits.classes, not beside), (splits.classes[::-1], True)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert bool(load_initial_weights(model := build_model(network, seed=2), path, classes)) == head == bool(caught)
        assert torch.equal(model.conv1.weight, given.conv1.weight) and torch.equal(model.fc[1].weight, given.fc[1].weight) != head


def test_weights_that_saw_the_test_images_are_refused(tmp_path):
    first = begin(tmp_path / "first")
    words = ["epochs=1", "batch_size=256", "data.split_seed=7", f"model.weights={first.path}"]
    with pytest.raises(DataError, match="test images were used to train the initial weights"):
        check_test_unseen(first.path / "classifier" / "model.safetensors", load_data(compose(words).data))
    with pytest.raises(DataError, match=r"\d+ of 3\d\d test images were used to train the initial weights.*allow=\[leaks\]"):
        train(compose(words), tmp_path / "run")
    assert train(compose([*words, "allow=[leaks]"]), tmp_path / "run").finished
    checkpoint, splits = next((first.path / "checkpoints").glob("step_*")), load_data(compose(["data.split_seed=7"]).data)
    for weights in (first.path / "classifier", first.path / "classifier" / "model.safetensors", checkpoint / "model.safetensors"):
        with pytest.raises(DataError, match=r"\d+ of 3\d\d test images were used to train the initial weights"):
            check_test_unseen(weights, splits)


def test_a_teacher_of_another_size_that_saw_the_test_images_is_refused_and_the_unknown_is_said(pets, tmp_path):
    "A photo has other pixels at 96 than at 32 px, so their hashes say nothing."
    teacher = train(compose([f"data={pets}", "data.size=16", "model=simple_cnn", "epochs=1", "batch_size=8"]), tmp_path / "teacher")
    words = [f"data={pets}", "model=simple_cnn", "data.size=8", "epochs=1"]
    for key in ("hyperparameters.distill", "model.weights"):
        with pytest.raises(DataError, match=r"[1-9]\d* of \d+ test images were used to train the (teacher|initial weights)"):
            train(compose([*words, "data.split_seed=7", f"{key}={teacher.path}"]), tmp_path / "run")
    same_split = load_data(compose(words).data)
    check_test_unseen(teacher.path, same_split)  # silent: known to be new
    shutil.copytree(pets, tmp_path / "moved")
    shutil.copytree(teacher.path / "classifier", tmp_path / "copy")
    moved = load_data(compose([f"data={tmp_path / 'moved'}", *words[1:]]).data)
    for weights, splits, why in ((teacher.path, moved, "another size and come from another place"), (tmp_path / "copy", same_split, "no run's folder")):
        with pytest.warns(UserWarning, match=f"unknown whether test images were used to train the teacher .*{why}"):
            check_test_unseen(weights, splits, role="teacher")
    assert count_seen_tests(Run(teacher.path), load_data(compose([*words[:1], "data.size=16"]).data)) == 0


def test_a_run_is_not_reused_if_its_initial_weights_were_replaced(tmp_path):
    first = begin(tmp_path / "first")
    words = ["epochs=1", "batch_size=256", f"model.weights={first.path / 'classifier'}"]
    train(compose(words), tmp_path / "run")
    assert train(compose(words), tmp_path / "run").reused
    continued(first.path, "epochs=3")
    with pytest.raises(ConfigError, match="the weights that the run started with have changed"):
        train(compose(words), tmp_path / "run")


# runs of earlier versions, and the name of the data


def without_markers(folder):
    for marker in folder.rglob(MARKER):
        marker.unlink()
    return folder


def test_run_without_markers_is_resumed_and_reused(whole, tmp_path):
    "Earlier versions wrote none; such a run is known by its files."
    with pytest.raises(KeyboardInterrupt):
        train(configured(), tmp_path / "run", splits=digits(), callbacks=[InEpoch(2, interrupt)])
    run = train(configured(), without_markers(tmp_path / "run"), splits=digits())
    assert run.resumed and weights_of(run) == weights_of(whole)
    assert train(configured(), without_markers(tmp_path / "run"), splits=digits()).reused


@pytest.mark.parametrize("text", ['{"versions": {"torch": "2"}, "data_fingerprint": "0"}', '["image_classifier"]', '{"versions": "image_classifier"}', "x"])
def test_folder_with_files_named_like_a_runs_is_still_refused(tmp_path, text):
    (tmp_path / "environment.json").write_text(text)
    (tmp_path / "config.yaml").write_text("seed: 1")
    with pytest.raises(ConfigError, match="not a run folder, and not empty"):
        train(configured(), tmp_path, splits=digits())


@pytest.mark.parametrize("name, shown", [("pets", "pets"), ("My <b>pets</b> | `x`\n", "My__b_pets"), (80 * "x", 40 * "x"), ("\u732b", "\u732b")])
def test_own_folder_gives_runs_reports_and_cards_its_name(pets, tmp_path, monkeypatch, name, shown):
    monkeypatch.chdir(tmp_path)
    pets = pets.rename(tmp_path / name.replace("/", ""))
    config = compose(["epochs=1", "batch_size=4", "device=cpu"])
    config.data.name, config.data.root = "folder", str(pets)
    assert load_data(config).name.startswith(shown) and f"-{shown}" in default_run_dir(config).name
    run = train(config, tmp_path / "run")
    card = (tmp_path / "run" / "classifier" / "README.md").read_text()
    assert run.metrics["data"]["name"].startswith(shown) and f"test images of `{shown}" in card


def test_finished_run_that_calls_its_data_folder_is_reused(pets, tmp_path):
    config = compose([f"data={pets}", "epochs=1", "batch_size=4", "device=cpu"])
    run = train(config, tmp_path / "run")
    metrics = {**run.metrics, "data": {**run.metrics["data"], "name": "folder"}}
    for folder in (tmp_path / "run", tmp_path / "run" / "classifier"):
        write_json(folder / "metrics.json", metrics)
    write_manifest(tmp_path / "run" / "classifier")
    assert train(config, tmp_path / "run").reused
