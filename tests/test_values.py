"Values given in Python are those of a configuration: text and numbers of numpy count as the number, wrong ones end in one line before any work."
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import network, splits  # noqa: F401

from image_classifier.config import AugmentConfig, compose, Config, DataConfig, Hyperparameters
from image_classifier.core import ConfigError
from image_classifier.data import load_data
from image_classifier.runs import Run, train
from image_classifier.training import Callback, Checkpoints, Compute, estimate, fit, resolve_compute

NAN = math.nan


def trained(splits, **settings):
    "Return all weights after a training of one epoch."
    fit(model := network(), splits, **{"epochs": 1, **settings})
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


@pytest.mark.parametrize("given, meant", [
    (dict(seed="7"), dict(seed=7)), (dict(seed=np.int64(7)), dict(seed=7)), (dict(epochs="1"), {}), (dict(batch_size="32"), dict(batch_size=32)),
    (dict(lr="0.01"), dict(lr=0.01)), (dict(lr=np.float64(0.01)), dict(lr=0.01)), (dict(early_stopping_patience="3"), {}),
    (dict(max_minutes="0"), {}), (dict(augment=AugmentConfig(rotation="5")), dict(augment=AugmentConfig(rotation=5.0))),
    (dict(augment=AugmentConfig(horizontal_flip="false")), {}), (dict(device=torch.device("cpu")), dict(device="cpu"))])
def test_text_and_other_numbers_train_the_same_network(splits, given, meant):
    assert torch.equal(trained(splits, **given), trained(splits, **meant))


def test_a_run_uses_and_stores_converted_values(splits, tmp_path):
    texts = dict(compile="false", deterministic="false", check_near_duplicates="false", seed="7", threads="1", early_stopping_patience="3")
    runs = []
    for name, values in (("text", texts), ("typed", dict(compile=False, deterministic=False, check_near_duplicates=False, seed=7, threads=1,
                                                         early_stopping_patience=3))):
        config = compose(["epochs=1", "device=cpu"])
        for key, value in values.items():
            setattr(config, key, value)
        config.checkpoint.keep = "2" if name == "text" else 2
        runs.append(train(config, tmp_path / name))
    assert (runs[0].path / "config.yaml").read_bytes() == (runs[1].path / "config.yaml").read_bytes()
    weights = [(run.path / "classifier" / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("settings, message", [
    (dict(early_stopping_patience=-1), "early_stopping_patience must be >= 0, got -1"), (dict(early_stopping_patience=NAN), "needs an integer, got nan"),
    (dict(early_stopping_patience=None), "0 never stops early, 10 is the default"), (dict(max_minutes=False), "max_minutes needs a number"),
    (dict(epochs="auto", max_minutes=None), "epochs=auto needs a time budget"),
    (dict(learning_rate=0.1), "fit has no argument learning_rate. write lr="), (dict(patience=3), "write early_stopping_patience="),
    (dict(optimizer="sgd"), r"write hyperparameters=Hyperparameters\(optimizer=...\)"), (dict(max_minute=1), "did you mean max_minutes"),
    (dict(max_minutes=-1), "max_minutes must be a finite number >= 0"), (dict(max_minutes=NAN), "max_minutes must be"),
    (dict(epochs=1.5), "num_epochs needs auto or an integer, got 1.5"), (dict(lr=NAN), "learning_rate must be a finite number > 0"),
    (dict(seed=None), "seed needs an integer, got null"), (dict(allow=["chnge"]), "did you mean change"), (dict(allow=None), "allow needs a list"),
    (dict(augment={}), "augment must be an AugmentConfig, a function"), (dict(augment=AugmentConfig(rotation="x")), "augment.rotation needs a number"),
    (dict(epochs=None, hyperparameters={}), "hyperparameters must be of type Hyperparameters, got dict"),
    (dict(epochs=None, hyperparameters=Hyperparameters), "got type"), (dict(device=0), "device needs text, got 0"),
    (dict(device=""), "device is empty"), (dict(device=None), "device needs text, got null"), (dict(compute="cpu"), "compute must be of type Compute"),
    (dict(callbacks=None), "callbacks must be of type Iterable"), (dict(callbacks=Callback()), "callbacks must be of type Iterable"),
    (dict(callbacks=[Callback]), "a callback must be of type Callback, got type"), (dict(callbacks=[3]), "a callback must be"),
    (dict(checkpoints="ck"), "checkpoints must be of type Checkpoints"), (dict(stop=True), "stop must be of type Stop, got bool")])
def test_a_wrong_setting_ends_in_one_line_before_the_first_step(splits, settings, message):
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ConfigError, match=message):
        fit(model, splits, **{"epochs": 1, **settings})
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_no_time_budget_is_the_same_as_a_budget_of_zero(splits):
    weights = []
    for given in ({}, {"max_minutes": None}, {"max_minutes": 0}):
        model = network()
        fit(model, splits, epochs=1, **given)
        weights.append(model.state_dict())
    assert all(torch.equal(tensor, other[name]) for other in weights[1:] for name, tensor in weights[0].items())


def test_a_key_given_to_train_is_sent_to_the_configuration():
    for name in ("epochs", "lr", "max_minutes"):
        with pytest.raises(ConfigError, match=rf'train has no argument {name}. put it into the configuration: compose\(\["{name}=...'):
            train(Config(), **{name: 3})
    with pytest.raises(ConfigError, match="train has no argument run_dri. did you mean run_dir"):
        train(Config(), run_dri="x")


@pytest.mark.parametrize("make, message", [
    (lambda: Compute(device="cpu"), "Compute.device must be of type device"), (lambda: Compute(threads=-1), "threads must be >= 0"),
    (lambda: Compute(precision="float32"), "Compute.precision must be of type dtype"), (lambda: Compute(compile="false"), "Compute.compile must"),
    (lambda: resolve_compute("cpu", "half"), "hyperparameters.precision must be one of"), (lambda: resolve_compute("cpu", compile="no"), "compile needs"),
    (lambda: Checkpoints("ck", keep=0), "checkpoint.keep must be >= 1"), (lambda: Checkpoints("ck", steps=-1), "checkpoint.every_steps must be"),
    (lambda: Checkpoints("ck", minutes=NAN), "checkpoint.every_minutes must be"), (lambda: Checkpoints(3), "the folder of checkpoints must be"),
    (lambda: compose(None), "overrides must be of type Iterable"), (lambda: compose(3), "overrides must be of type Iterable")])
def test_a_wrong_part_is_refused_when_it_is_made(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_checkpoints_take_text_and_a_path_for_a_number_and_a_folder(tmp_path):
    made = Checkpoints(tmp_path, keep="3", steps=np.int64(5), minutes="0.5")
    assert (made.folder, made.keep, made.steps, made.minutes) == (tmp_path, 3, 5, 0.5)


@pytest.mark.parametrize("seconds", [NAN, -1, 0, "many", None])
def test_an_estimate_needs_seconds(splits, seconds):
    with pytest.raises(ConfigError, match="seconds (must be a finite number > 0|needs a number)"):
        estimate(network(), splits, epochs=1, seconds=seconds)


@pytest.mark.parametrize("state", [{"loss": NAN}, {"loss": object()}, {"loss": {1, 2}}])
def test_a_callback_whose_state_cannot_be_saved_is_named(splits, state, tmp_path):
    class Keeper(Callback):
        def state_dict(self):
            return state

    with pytest.raises(ConfigError, match="the state of Keeper cannot be saved"):
        fit(network(), splits, epochs=1, callbacks=[Keeper()], checkpoints=Checkpoints(tmp_path))
    assert not list(tmp_path.iterdir())


# data


@pytest.mark.parametrize("settings, message", [
    (dict(valid_fraction=2), "data.valid_fraction must be a finite number > 0 and < 1, got 2.0"), (dict(valid_fraction=-1), "valid_fraction must be"),
    (dict(valid_fraction=NAN), "valid_fraction must be"), (dict(valid_fraction=0.5, test_fraction=0.7), "add up to 1.2, must be < 1"),
    (dict(split_seed="x"), "data.split_seed needs an integer"), (dict(size=8.5), "data.size needs auto or an integer"),
    (dict(size="x"), "data.size needs auto or an integer"), (dict(cache_dir=3), "data.cache_dir needs text or null"),
    (dict(memory_limit="x"), "data.memory_limit needs an integer"), (dict(name="folder", root=3), "data.root needs text or null"),
    (dict(formats=[]), "data.formats is empty"), (dict(name="folder"), "data.root is required"), (dict(name=3), "data.name needs text"),
    (dict(name="a b"), "data.name must be one of .* or a registered name"), (dict(download="maybe"), "data.download needs true or false")])
def test_a_wrong_data_setting_ends_in_one_line(settings, message):
    with pytest.raises(ConfigError, match=message):
        load_data(DataConfig(**settings))


@pytest.mark.parametrize("allow", [["corupt"], "corupt", [3], 3])
def test_a_misspelled_permission_is_refused(allow):
    with pytest.raises(ConfigError, match="allow (must be a list of leaks, corrupt|needs a list)"):
        load_data("digits", allow=allow)


def test_data_settings_given_as_text_give_the_same_splits():
    typed = load_data(DataConfig(valid_fraction=0.2, split_seed=7))
    assert load_data(DataConfig(valid_fraction="0.2", split_seed="7", cache_dir=None)).fingerprint == typed.fingerprint
    assert load_data(DataConfig(valid_fraction=np.float64(0.2), split_seed=np.int32(7))).config == typed.config


# runs


@pytest.mark.parametrize("arguments, message", [
    (dict(run_dir=3), "run_dir needs text or null, got 3"), (dict(run_dir="\0"), "run_dir needs text or null"), (dict(resume=True), "resume needs text"),
    (dict(resume=""), "resume is empty"), (dict(callbacks=None), "callbacks must be of type Iterable"), (dict(splits=3), "splits must be of type Splits")])
def test_a_wrong_argument_of_a_run_ends_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        train(compose(["epochs=1"]), **{"run_dir": tmp_path / "run", **arguments})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("split", ["train", "all", None, "../test"])
def test_a_split_without_predictions_is_named(split):
    with pytest.raises(ConfigError, match="a run has no predictions for .*choose valid or test"):
        Run("nowhere").evaluation(split)


def test_a_wrong_section_of_a_configuration_is_named():
    with pytest.raises(ConfigError, match="hyperparameters needs Hyperparameters, got dict"):
        train(Config(hyperparameters={"num_epochs": 1}), Path("nowhere"))
