"Resuming: a training that is interrupted in any way ends with the weights of an uninterrupted one; damaged or changed runs are refused."
import json
import random
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from literate import ROOT
from small_training import StopAt

from image_classifier.cli import main
from image_classifier.config import compose
from image_classifier.core import ArtifactError, ConfigError, DataError, LOCK, locked, own_folder, ResourceError, Stop, write_manifest
from image_classifier.data import load_data
from image_classifier.models import Architecture, build_model
from image_classifier.runs import Run, train
from image_classifier.training import Callback, Checkpoints, fit, optimizer_tensors, read_checkpoint, training_arguments, write_checkpoint

IC = str(Path(sys.executable).with_name("ic"))


@cache
def digits():
    "Splits with 320 training digits: forty steps of eight."
    splits = load_data("digits")
    return replace(splits, train=splits.train.select(range(320)), valid=splits.valid.select(range(32)), test=splits.test.select(range(32)))


def configured(*overrides):
    usual = {"model": "simple_cnn", "epochs": "2", "batch_size": "8", "device": "cpu", "early_stopping_patience": "0"}
    return compose([f"{key}={value}" for key, value in {**usual, **dict(word.split("=", 1) for word in overrides)}.items()])


class Memory(Callback):
    "Keeps the optimizer's state at the end, and the first step of this process."
    first = None

    def on_step_end(self, state):
        self.first = self.first or state.step

    def on_fit_end(self, state):
        self.optimizer = {name: tensor.clone() for name, tensor in optimizer_tensors(state.optimizer).items()}


def stopped(folder, step, *overrides):
    "Return the folder of a run that was stopped after a step."
    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        train(configured(*overrides), folder, callbacks=[StopAt(step, stop)], splits=digits(), stop=stop)
    return folder


def ended(folder, *overrides):
    "Train a run to its end, and return its first step and everything that must not depend on interruptions."
    memory = Memory()
    run = train(configured(*overrides), folder, callbacks=[memory], splits=digits())
    weights = (run.path / "classifier" / "model.safetensors").read_bytes()
    predictions = [(run.path / "predictions" / f"{split}.safetensors").read_bytes() for split in ("valid", "test")]
    history = [replace(result, seconds=0) for result in run.history]
    metrics = {name: value for name, value in run.metrics.items() if name != "time"}
    optimizer = {name: tensor.tolist() for name, tensor in memory.optimizer.items()}
    return memory.first, (weights, predictions, history, metrics, optimizer)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "An uninterrupted run of two epochs with a checkpoint after each step, and its results."
    folder = tmp_path_factory.mktemp("resume") / "whole"
    return folder, ended(folder, "checkpoint.every_steps=1", "checkpoint.keep=200")[1]


def only(folder, target, step):
    "Return a run folder with a single checkpoint of `folder`."
    own_folder(target, "run")
    for name in ("config.yaml", "environment.json"):
        shutil.copy(folder / name, target)
    shutil.copytree(folder / "checkpoints" / f"step_{step:08d}", target / "checkpoints" / f"step_{step:08d}")
    (target / "history.jsonl").write_text("a torn li")
    return target


# exact resume


def fitted(splits, config, folder, step=None):
    "Return the first step, weights with optimizer state, and history of a training, stopped at `step` if given."
    stop, memory = Stop(), Memory()
    model = build_model(Architecture(config.model.name, splits.preprocess.channels, 10, splits.preprocess.size, config.hyperparameters.dropout), seed=42)
    store = Checkpoints(folder, config.checkpoint.keep, config.checkpoint.every_steps)
    history = fit(model, splits, **training_arguments(config), callbacks=[memory, StopAt(step, stop)], checkpoints=store, stop=stop)
    return memory.first, {name: tensor.tolist() for name, tensor in {**model.state_dict(), **memory.optimizer}.items()}, [replace(result, seconds=0) for result in history]


def test_resume_at_any_step_gives_identical_weights(tmp_path):
    config = configured("epochs=1", "checkpoint.every_steps=1", "checkpoint.keep=200")
    expected = fitted(digits(), config, tmp_path / "all")[1:]
    assert Checkpoints(tmp_path / "all").list_steps() == list(range(1, 41))
    for step in range(1, 41):
        shutil.copytree(tmp_path / "all" / f"step_{step:08d}", tmp_path / str(step) / f"step_{step:08d}")
        first, *found = fitted(digits(), replace(config, checkpoint=replace(config.checkpoint, every_steps=0)), tmp_path / str(step))
        assert first == (step + 1 if step < 40 else None) and tuple(found) == expected, step


@pytest.mark.parametrize("words", [["hyperparameters.optimizer=sgd", "hyperparameters.scheduler_type=onecycle"], ["hyperparameters.optimizer=adamw"],
                                   ["augment.rotation=10", "augment.translate=0.1", "hyperparameters.scheduler_type=plateau"], ["model=resnet", "data.channels=3"]])
def test_resume_is_exact_for_every_optimizer_schedule_augmentation_and_network(tmp_path, words):
    config = configured(*words)
    data = load_data(config.data)
    splits = replace(data, train=data.train.select(range(48)), valid=data.valid.select(range(16)))
    whole = fitted(splits, config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fitted(splits, config, tmp_path / "cut", step=8)
    first, *found = fitted(splits, config, tmp_path / "cut")
    assert first == 9 and found == list(whole[1:])


def test_resumed_run_has_the_results_of_an_uninterrupted_one(whole, tmp_path):
    first, result = ended(only(whole[0], tmp_path / "run", 17), "checkpoint.every_steps=1", "checkpoint.keep=200")
    assert first == 18 and result == whole[1]


def test_best_epoch_survives_an_interruption(tmp_path):
    "The weights are set to zero after the first epoch, so it stays the best."
    def spoil(state):
        if state.epoch >= 1:
            for weight in state.model.parameters():
                weight.data.mul_(0)
    class Spoiler(Callback):
        on_epoch_start = staticmethod(spoil)
    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        train(configured("epochs=3"), tmp_path / "cut", callbacks=[Spoiler(), StopAt(90, stop)], splits=digits(), stop=stop)
    found = Checkpoints(tmp_path / "cut" / "checkpoints").latest()
    assert (found.step, found.state["best_step"]) == (90, 40) and found.best
    runs = [train(configured("epochs=3"), tmp_path / name, callbacks=[Spoiler()], splits=digits()) for name in ("whole", "cut")]
    assert [run.metrics["best_epoch"] for run in runs] == [1, 1]
    weights = [(run.path / "classifier" / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]


def test_best_average_survives_a_stop_between_epochs(tmp_path):
    "The best weights are then those of the running average."
    class Spoiler(Callback):
        def on_epoch_start(self, state):
            for weight in state.model.parameters() if state.epoch else []:
                weight.data.mul_(0)
    words, stop = ("epochs=3", "hyperparameters.ema_decay=0.9"), Stop()
    with pytest.raises(KeyboardInterrupt):
        train(configured(*words), tmp_path / "cut", callbacks=[StopAt(40, stop), Spoiler()], splits=digits(), stop=stop)
    assert Checkpoints(tmp_path / "cut" / "checkpoints").list_steps() == [40]
    runs = [train(configured(*words), tmp_path / name, callbacks=[Spoiler()], splits=digits()) for name in ("whole", "cut")]
    assert [run.metrics["best_epoch"] for run in runs] == [1, 1]
    weights = [(run.path / "classifier" / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]


def test_a_run_cut_by_its_time_budget_is_evaluated_by_the_next_process(tmp_path):
    "The run was cut in its second epoch, and killed before its evaluation."
    class Late(Callback):
        def on_step_end(self, state):
            if state.step == 45: state.schedule = replace(state.schedule, deadline=0.0)
    words = ("epochs=2", "max_minutes=10", "checkpoint.every_steps=45")
    run = train(configured(*words), tmp_path / "run", callbacks=[Late()], splits=digits())
    assert [result.step for result in run.history] == [40, 45]
    expected = {name: value for name, value in run.metrics.items() if name != "time"}
    assert run.metrics["time"]["images_per_second"] * run.metrics["time"]["train_seconds"] == pytest.approx(45 * 8)
    (run.path / "metrics.json").unlink()
    again = train(configured(*words), run.path, splits=digits())
    assert [result.step for result in again.history] == [40, 45]
    assert {name: value for name, value in again.metrics.items() if name != "time"} == expected


def test_history_is_cut_back_to_the_checkpoint(whole, tmp_path):
    folder = only(whole[0], tmp_path / "run", 30)
    shutil.copy(whole[0] / "history.jsonl", folder)
    assert ended(folder, "checkpoint.every_steps=1", "checkpoint.keep=200")[1] == whole[1]


def test_callback_state_is_restored(tmp_path):
    class Counter(Callback):
        count = 0

        def on_step_end(self, state):
            self.count += 1

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]
    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        train(configured(), tmp_path / "run", callbacks=[Counter(), StopAt(30, stop)], splits=digits(), stop=stop)
    with pytest.raises(ConfigError, match="made with the callback Counter, which is not among those given"):
        train(configured(), tmp_path / "run", splits=digits())
    counter = Counter()
    train(configured(), tmp_path / "run", callbacks=[counter], splits=digits())
    assert counter.count == 80


def test_training_time_adds_up_over_interruptions(tmp_path):
    folder = stopped(tmp_path / "run", 30)
    spent = dict(Checkpoints(folder / "checkpoints").latest().state["callbacks"])["TimerCallback"]["seconds"]
    assert spent > 0 and train(configured(), folder, splits=digits()).metrics["time"]["train_seconds"] > spent


# killed


def crash(*words):
    "Return the result of the crash program."
    done = subprocess.run([sys.executable, str(ROOT / "tests" / "crash.py"), *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_ten_runs_killed_at_random_moments_give_identical_weights():
    found = crash("kills", 10)
    assert found["killed"] >= 5 and (found["equal"], found["failed"]) == (10, 0), found


def test_a_save_that_dies_or_fails_anywhere_leaves_an_intact_checkpoint():
    found = crash("saves")
    assert found["EFBIG"] == 0
    for name in ("death", "ENOSPC", "EIO"):
        assert found[name]["operations"] > 30 and found[name]["old"] > 20 and found[name]["new"] > 0, found


def test_three_failed_saves_in_a_row_end_the_run(tmp_path, monkeypatch):
    from image_classifier.training import checkpoint as checkpoints
    real, fails = checkpoints.write_checkpoint, []

    def full(folder, checkpoint):
        if len(fails) < limit:
            fails.append(checkpoint.step)
            raise ResourceError("the disk is full")
        return real(folder, checkpoint)
    monkeypatch.setattr(checkpoints, "write_checkpoint", full)
    limit = 2
    with pytest.warns(UserWarning, match="could not be saved at step 5: the disk is full"):
        assert train(configured("checkpoint.every_steps=5"), tmp_path / "two", splits=digits()).finished
    limit = 99
    with pytest.warns(UserWarning), pytest.raises(ResourceError, match="third time in a row: the disk is full") as caught:
        train(configured("checkpoint.every_steps=5"), tmp_path / "three", splits=digits())
    assert caught.value.exit_code == 6 and fails[-3:] == [5, 10, 15]


# damaged


def damages(data):
    "Yield damaged versions of a file, then None for a missing one."
    draw = random.Random(len(data))
    for _ in range(20):
        place = draw.randrange(len(data))
        yield data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1:]
    for _ in range(10):
        yield data[:draw.randrange(len(data))]
    page = draw.randrange(max(1, len(data) - 4096))
    yield data[:page] + bytes(min(4096, len(data) - page)) + data[page + 4096:]
    yield None


@pytest.mark.parametrize("name", ["model.safetensors", "optim.safetensors", "state.json", "MANIFEST.json"])
def test_every_damage_is_detected_and_the_checkpoint_before_is_used(whole, tmp_path, name):
    for step in (30, 31):
        only(whole[0], tmp_path, step)
    store, path = Checkpoints(tmp_path / "checkpoints"), tmp_path / "checkpoints" / "step_00000031" / name
    sound = path.read_bytes()
    for damaged in damages(sound):
        if damaged == sound:
            continue
        path.unlink() if damaged is None else path.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert store.latest().step == 30
        assert len(caught) == 1 and str(caught[0].message).endswith("; using step 30 instead")
        path.write_bytes(sound)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.latest().step == 31


def test_files_swapped_between_checkpoints_are_detected(whole, tmp_path):
    for step in (30, 31):
        only(whole[0], tmp_path, step)
    shutil.copy(tmp_path / "checkpoints" / "step_00000030" / "optim.safetensors", tmp_path / "checkpoints" / "step_00000031")
    with pytest.warns(UserWarning, match="sha256 mismatch in optim.safetensors"):
        assert Checkpoints(tmp_path / "checkpoints").latest().step == 30


def test_damaged_newest_checkpoint_does_not_change_the_result(whole, tmp_path):
    for step in (30, 31):
        only(whole[0], tmp_path / "run", step)
    (tmp_path / "run" / "checkpoints" / "step_00000031" / "MANIFEST.json").unlink()
    with pytest.warns(UserWarning, match=r"incomplete \(no MANIFEST.json\).*using step 30 instead"):
        first, result = ended(tmp_path / "run", "checkpoint.every_steps=1", "checkpoint.keep=200")
    assert first == 31 and result == whole[1]


def test_run_with_only_damaged_checkpoints_is_refused(whole, tmp_path):
    folder = only(whole[0], tmp_path / "run", 30)
    (folder / "checkpoints" / "step_00000030" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="no usable checkpoint: model.safetensors is empty.*start again in another run folder"):
        train(configured(), folder, splits=digits())


def doctored(folder, **changes):
    "Change the state of a run's only checkpoint, with a matching manifest."
    path, = (folder / "checkpoints").iterdir()
    state = json.loads((path / "state.json").read_text())
    for name, value in changes.items():
        state.pop(name) if value is None else state.update({name: value})
    (path / "state.json").write_text(json.dumps(state))
    write_manifest(path)
    return folder


@pytest.mark.parametrize("changes, line", [({"format": 2}, "made in format 2"), ({"epoch": None}, "not the state of a training"), ({"history": [{}]}, "not the state of a training"),
                                           ({"running_totals": "x"}, "not the state of a training"), ({"made_with": []}, "not the state of a training"), ({"step": 7}, "this is step 7"),
                                           ({"callbacks": 1}, "not the state of a training"), ({"best_step": None}, "not the state of a training"),
                                           ({"callbacks": [[]]}, "not the state"), ({"step": True}, "not the state"), ({"step": "00000030"}, "not the state"), ({"seconds": "1"}, "not the state"),
                                           ({"epoch": -1}, "do not agree"), ({"running_totals": [1]}, "do not agree"), ({"running_totals": [10**400, 0]}, "do not agree"), ({"stop": 1}, "do not agree"),
                                           ({"best_step": 5}, "do not agree"), ({"lr": 1e999}, "not valid JSON"), ({"history": [{"epoch": "1"}]}, "not the state")])
def test_inconsistent_state_is_refused(whole, tmp_path, changes, line):
    with pytest.raises(ArtifactError, match=line) as caught:
        train(configured(), doctored(only(whole[0], tmp_path / "run", 30), **changes), splits=digits())
    assert caught.value.exit_code == 4


def test_checkpoint_of_another_network_is_refused(whole, tmp_path):
    folder = only(whole[0], tmp_path / "run", 30)
    found = read_checkpoint(folder / "checkpoints" / "step_00000030")
    found.model.pop(min(found.model))
    found.state.pop("format"), found.state.pop("step")
    write_checkpoint(folder / "checkpoints", found)
    with pytest.raises(ArtifactError, match="weights of another architecture"):
        train(configured(), folder, splits=digits())


def test_best_weights_of_another_network_are_refused_too(whole, tmp_path):
    folder = only(whole[0], tmp_path / "run", 60)
    found = read_checkpoint(folder / "checkpoints" / "step_00000060")
    found.best = {name: tensor[:1] if tensor.ndim else tensor for name, tensor in found.best.items()}
    found.state.pop("format"), found.state.pop("step")
    write_checkpoint(folder / "checkpoints", found)
    with pytest.raises(ArtifactError, match=r"has shape \(1, .* in the file"):
        train(configured(), folder, splits=digits())


# changed


def test_other_threads_torch_or_data_are_named_and_must_be_allowed(whole, tmp_path):
    threads = torch.get_num_threads()
    for number, (name, value, error) in enumerate([("threads", threads + 1, ConfigError), ("torch", "1.0", ConfigError), ("data", "f00d", DataError)]):
        folder = only(whole[0], tmp_path / str(number), 30)
        state = json.loads((folder / "checkpoints" / "step_00000030" / "state.json").read_text())
        doctored(folder, made_with={**state["made_with"], name: value})
        with pytest.raises(error, match=rf"{name} {value} then, .* now.*allow=\[change\]"):
            train(configured(), folder, splits=digits())
        with pytest.warns(UserWarning, match=f"not be bit-identical: {name} {value} then"):
            assert train(configured("allow=[change]"), folder, splits=digits()).finished


def test_other_configuration_must_be_allowed(whole, tmp_path):
    folder = only(whole[0], tmp_path / "run", 80)
    with pytest.raises(ConfigError, match="hyperparameters.num_epochs 2 there, 3 now"):
        train(configured("epochs=3"), folder, splits=digits())
    with pytest.warns(UserWarning, match="hyperparameters.num_epochs 2 then, 3 now"):
        run = train(configured("epochs=3", "allow=[change]"), folder, splits=digits())
    assert [result.epoch for result in run.history] == [1, 2, 3] and run.config.hyperparameters.num_epochs == 3
    with pytest.raises(ConfigError, match="seed 42 there, 1 now"):
        train(configured("epochs=3", "seed=1", "allow=[change]"), folder, splits=digits())


@pytest.mark.parametrize("rename, said", [(lambda names: sorted(["zebra", *names[1:]]), "gone 0; new zebra"), (lambda names: names[:-1], "gone 9"),
                                          (lambda names: [*names, "ten"], "new ten"), (lambda names: names[::-1], "another order")])
def test_other_classes_are_refused_even_if_changes_are_allowed(tmp_path, rename, said):
    folder = stopped(tmp_path / "run", 30)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    parts = {name: replace(getattr(digits(), name), classes=tuple(rename(list(digits().classes)))) for name in ("train", "valid", "test")}
    other = replace(digits(), **parts, fingerprint="f00d")
    again = [lambda: train(configured("allow=[change]"), folder, splits=other)]
    if len(other.classes) == 10:
        again.append(lambda: fitted(other, configured("allow=[change]"), folder / "checkpoints"))
    for attempt in again:
        with pytest.raises(DataError, match=f"the classes have changed since the run was made: {said}"):
            attempt()
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert train(configured(), folder, splits=digits()).finished


def test_a_setting_missing_from_a_checkpoint_had_its_default(whole, tmp_path):
    folder = only(whole[0], tmp_path / "run", 30)
    made_with = json.loads((folder / "checkpoints" / "step_00000030" / "state.json").read_text())["made_with"]
    del made_with["deterministic"], made_with["hyperparameters.ema_decay"]
    doctored(folder, made_with=made_with)
    assert train(configured(), folder, splits=digits()).finished


def test_other_batch_size_is_refused_even_if_changes_are_allowed(whole, tmp_path):
    folder = only(whole[0], tmp_path / "run", 30)
    with pytest.warns(UserWarning), pytest.raises(ConfigError, match="an epoch has another number of steps now"):
        train(configured("batch_size=16", "allow=[change]"), folder, splits=digits())


def test_another_optimizer_starts_with_empty_state(whole, tmp_path):
    folder = only(whole[0], tmp_path / "run", 30)
    with pytest.warns(UserWarning, match="hyperparameters.optimizer adam then, sgd now"):
        assert train(configured("hyperparameters.optimizer=sgd", "allow=[change]"), folder, splits=digits()).finished


# stopping


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_saves_and_prints_the_command_to_resume(tmp_path, number, code):
    words = ["train", "epochs=1000000", "early_stopping_patience=0", "hyperparameters=fast", "--out", str(tmp_path / "run")]
    process = subprocess.Popen([IC, *words], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert any(line.startswith("epoch ") for line in iter(process.stderr.readline, ""))
        process.send_signal(number)
        rest = process.communicate(timeout=120)[1].splitlines()
    finally:
        process.kill()
    assert process.returncode == code, rest
    assert "stopping after this step; interrupt again to quit at once" in rest
    assert rest[-1] == f"error: interrupted. resume with: ic {' '.join(words)}"
    found, rows = Checkpoints(tmp_path / "run" / "checkpoints").latest(), len(Run(tmp_path / "run").history)
    assert found.state["epoch"] == rows >= 1 and not (tmp_path / "run" / LOCK).exists()


def test_second_signal_exits_immediately(tmp_path):
    held = """
import signal, sys, time
from image_classifier.core import Stop, install_handlers

with install_handlers(stop := Stop(lambda text: print(text, file=sys.stderr, flush=True)), signal.SIGINT), stop.deferred():
    print("on", flush=True)
    while True: time.sleep(1)
"""
    process = subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert "interrupt again" in process.stderr.readline() and process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()


def test_without_out_the_error_names_the_new_run_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = literate-image-classifier\n")
    monkeypatch.chdir(tmp_path)
    from image_classifier import training

    class RaiseSignal(Callback):
        def on_step_end(self, state):
            signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr(training, "make_progress", RaiseSignal)
    assert main(["train", "epochs=2"]) == 130
    folder, = (tmp_path / "runs").glob("[!.]*")
    assert capsys.readouterr().err.splitlines()[-1] == f"error: interrupted. resume with: ic train epochs=2 --out runs/{folder.name}"
    assert Checkpoints(folder / "checkpoints").list_steps() == [1]
    monkeypatch.setattr(training, "make_progress", Callback)
    assert main(["train", "epochs=2", "--out", f"runs/{folder.name}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resumed"] == 1
    assert main(["train", "epochs=2", "--out", f"runs/{folder.name}"]) == 0
    assert capsys.readouterr().out.startswith("an equal run was already finished")


def test_report_of_an_interrupted_run_mentions_it(tmp_path, capsys):
    folder, stop = tmp_path / "run", Stop()
    with pytest.raises(KeyboardInterrupt):
        train(compose(["epochs=2"]), folder, callbacks=[StopAt(30, stop)], stop=stop)
    assert main(["report", str(folder)]) == 0
    assert "the run was interrupted before; resumed from step 30" in (folder / "report.html").read_text()


# one folder, one process


def test_second_process_is_refused_and_a_dead_one_holds_no_lock(tmp_path, capsys):
    words = ["train", "epochs=1000000", "early_stopping_patience=0", "hyperparameters=fast", "--out", str(tmp_path / "run")]
    process = subprocess.Popen([IC, *words], stderr=subprocess.PIPE, text=True)
    try:
        assert any(line.startswith("epoch ") for line in iter(process.stderr.readline, ""))
        assert main(words) == 2
        assert f"locked by process {process.pid}" in capsys.readouterr().err
    finally:
        process.kill()
    process.communicate()
    assert (tmp_path / "run" / LOCK).exists(), "the process was killed, so its lock file stays"
    with locked(tmp_path / "run"):
        pass
    assert not (tmp_path / "run" / LOCK).exists()
