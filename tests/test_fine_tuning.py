"Fine-tuning: frozen layers stay as they are, an interrupted fine-tuning ends with the same weights, bad settings get one line."
import random
import warnings
from dataclasses import replace
from functools import cache

import pytest
import torch
from small_training import StopAt
from torch import nn

from folders import picture, save
from image_classifier.config import Hyperparameters, compose
from image_classifier.core import ArtifactError, ConfigError, MARKER, save_tensors, Stop
from image_classifier.data import load_data
from image_classifier.models import build_model, find_classifier, packaged_weights
from image_classifier.runs import choose_settings, describe_model, find_lr_run, results_table, running, train
from image_classifier.runs.choices import describe_choice
from image_classifier.training import body_hash, Checkpoints, FineTuning, fine_tune, fit

MODES = ("auto", "head", "gradual", "all")


@cache
def digits():
    "Splits with 160 training digits: ten steps of sixteen."
    splits = load_data("digits")
    return replace(splits, train=splits.train.select(range(160)), valid=splits.valid.select(range(40)), test=splits.test.select(range(40)))


def tuned(mode, cache_dir, folder=None, step=None):
    "Fine-tune a network, stop after a step if one is given, and return network and result."
    network, stop = build_model("simple_cnn", classes=10, channels=1, size=8, dropout=0.3, seed=3), Stop()
    callbacks = [StopAt(step, stop)] if step else []
    hyper = Hyperparameters(optimizer="adamw", learning_rate=5e-3, num_epochs=3, batch_size=16, scheduler_type="onecycle")
    result = fine_tune(network, digits(), mode, hyperparameters=hyper, callbacks=callbacks, stop=stop, cache_dir=str(cache_dir),
                       checkpoints=folder and Checkpoints(folder))
    return network, result


@pytest.mark.parametrize("mode", MODES)
def test_a_fine_tuning_that_is_stopped_at_any_step_ends_with_the_same_weights(tmp_path, mode):
    whole, result = tuned(mode, tmp_path / "cache")
    last = result.history[-1].step if mode != "auto" or result.about["kept"] != "probe" else 10
    for number, step in enumerate(random.Random(mode).sample(range(1, last), 2)):
        with pytest.raises(KeyboardInterrupt):
            tuned(mode, tmp_path / "cache", tmp_path / f"{number}", step)
        resumed, again = tuned(mode, tmp_path / "cache", tmp_path / f"{number}")
        assert again.about == result.about
        assert [replace(row, seconds=0) for row in again.history] == [replace(row, seconds=0) for row in result.history]
        for name, tensor in whole.state_dict().items():
            assert torch.equal(tensor, resumed.state_dict()[name]), (mode, step, name)


def test_statistics_of_frozen_layers_do_not_move_even_with_an_average_of_the_weights(tmp_path):
    network = build_model("simple_cnn", classes=10, channels=1, size=8, seed=3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fine_tune(network, digits(), "head", hyperparameters=Hyperparameters(num_epochs=2, batch_size=16, ema_decay=0.9))
    head = find_classifier(network)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{head}.weight", f"{head}.bias"}


def test_a_normalization_that_the_user_froze_stays_frozen_in_fit():
    network = build_model("simple_cnn", classes=10, channels=1, size=8, seed=3)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for weight in norms[0].parameters():
        weight.requires_grad_(False)
    before = [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in norms]
    fit(network, digits(), epochs=1, batch_size=16)
    same = [all(torch.equal(buffer, then[name]) for name, buffer in norm.named_buffers()) for norm, then in zip(norms, before)]
    assert same == [True] + [False] * (len(norms) - 1)
    assert not any(weight.requires_grad for weight in norms[0].parameters())


def test_layers_without_a_rate_of_their_own_and_networks_without_a_head_are_refused():
    network = build_model("simple_cnn", classes=10, channels=1, size=8, seed=3)
    with pytest.raises(ConfigError, match="no layer fc"):
        fit(network, digits(), epochs=1, plan=FineTuning("fc"))
    with pytest.raises(ConfigError, match="linear layer"):
        fine_tune(build_model("squeezenet1_1", classes=10, channels=1, size=32), digits(), "probe", hyperparameters=Hyperparameters())


@pytest.mark.parametrize("words, line", [
    (["model=resnet", "finetune=probe"], "finetune=probe needs pretrained weights"),
    (["model=resnet", "finetune=gradual"], r"use model=\w+ model.weights=DEFAULT"),
    (["model=resnet18", "finetune=head"], "use model.weights=DEFAULT, or"),
    (["finetune=all"], "simple_cnn starts without any"),
    (["model=simple_cnn", "model.weights=DEFAULT"], "no pretrained weights"),
    (["finetune=probes"], "did you mean probe"),
])
def test_settings_that_have_nothing_to_fine_tune_are_refused_before_work(tmp_path, words, line):
    with pytest.raises(ConfigError, match=line):
        train(compose(["data=digits", *words]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_time_budget_for_small_images_chooses_the_fast_network_and_keeps_what_was_set():
    config = compose(["data=digits", "max_minutes=1", "lr=0.1"])
    splits = load_data("digits")
    assert choose_settings(config, splits=splits).model.name == "simple_cnn"  # 8 pixels are too few
    large = replace(splits, preprocess=replace(splits.preprocess, size=32))
    found = choose_settings(config, splits=large)
    assert (found.model.name, found.hyperparameters.learning_rate, found.hyperparameters.num_epochs) == ("speednet", 0.1, "auto")
    assert choose_settings(found, splits=large) == found


def test_a_start_that_failed_is_not_continued_and_leaves_no_folder(tmp_path, monkeypatch, caplog):
    save_tensors(tmp_path / "other.safetensors", build_model("resnet", classes=10, channels=1, size=8).state_dict())
    words, folder = ["epochs=1", "batch_size=256"], tmp_path / "runs" / "digits"
    monkeypatch.chdir(tmp_path)
    for place in (folder, None):
        with pytest.raises(ArtifactError, match="another architecture"):
            train(compose([*words, "model=simple_cnn", "model.weights=other.safetensors"]), place)
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):  # a user's network with a bug
            patch.setattr(running, "new_model", lambda *values: 1 / 0)
            train(compose([*words, "model=speednet"]), place)
        assert not (tmp_path / "runs").exists()
    folder.mkdir(parents=True)
    with pytest.raises(ArtifactError):
        train(compose([*words, "model=simple_cnn", "model.weights=other.safetensors"]), folder)
    assert [path.name for path in folder.iterdir()] == [MARKER]
    with caplog.at_level("INFO", "image_classifier"):
        run = train(compose(words), folder)
    line = "model=auto chose simple_cnn (three in four images have at most 64 px), inputs of 8 px (as the images)"
    assert line in caplog.messages and run.metrics["model"]["choice"] == line and run.metrics["model"]["size"] == 8
    assert line in results_table(run.metrics) and describe_model(run.metrics) == "simple_cnn, inputs of 8 px"


def test_thumbnails_among_photos_do_not_make_them_small_images(tmp_path):
    for number in range(20):
        save(tmp_path / "pets" / "ab"[number % 2] / f"{number}.png", picture(number, 200 if number < 7 else 40))
    words = [f"data={tmp_path / 'pets'}", f"data.cache_dir={tmp_path / 'cache'}", "device=cpu"]
    asked = compose(words)
    config = choose_settings(asked)
    assert config.model.name == (packaged_weights() or "resnet")
    if packaged_weights():
        assert config.data.size == 192 and "192 px (the most that is worth its time on a CPU)" in describe_choice(asked, config, 192)
    for number in range(3):
        (tmp_path / "pets" / "ab"[number % 2] / f"{number}.png").unlink()
    assert choose_settings(asked).model.name == "simple_cnn"


def test_another_dropout_rate_has_the_same_features():
    for name in ("resnet18", "simple_cnn"):
        keys = {body_hash(build_model(name, classes=10, channels=1, size=32, dropout=dropout, seed=1)) for dropout in (0.0, 0.2, 0.5)}
        assert len(keys) == 1, name


def test_a_search_for_a_learning_rate_that_nothing_uses_is_refused():
    with pytest.raises(ConfigError, match="a linear probe has no learning rate .* use finetune=head, gradual or all"):
        find_lr_run(compose(["data=digits", "model=resnet18", "model.weights=DEFAULT", "finetune=probe"]), digits())


def test_settings_that_a_kept_probe_does_not_use_are_named(tmp_path):
    "With this learning rate an epoch of all layers changes nothing, so the probe is kept."
    save_tensors(tmp_path / "a.safetensors", build_model("simple_cnn", classes=10, channels=1, size=8, seed=3).state_dict())
    words = ["model=simple_cnn", f"model.weights={tmp_path / 'a.safetensors'}", "lr=1e-30", "epochs=1", "batch_size=16", "allow=[leaks]"]
    with pytest.warns(UserWarning, match=r"^augment.mixup, hyperparameters.swa_start had no effect, because the linear probe is kept"):
        run = train(compose([*words, "augment.mixup=0.2", "hyperparameters.swa_start=0.5"]), tmp_path / "run", splits=digits())
    assert run.metrics["fine_tuning"]["kept"] == "probe"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(compose(words), tmp_path / "plain", splits=digits())
    assert not [one for one in caught if "had no effect" in str(one.message)]
