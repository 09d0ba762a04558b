"Fine-tuning: frozen layers stay as they are, an interrupted fine-tuning ends with the same weights, bad settings get one line."
import random
import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from small_training import StopAt
from torch import nn

from folders import picture, save
from image_classifier.config import Hyperparameters, compose
from image_classifier.core import ArtifactError, ConfigError, DivergedError, MARKER, save_tensors, Stop, tensors_hash
from image_classifier.data import load_data
from image_classifier.models import build_model, find_classifier, packaged_weights
from image_classifier.runs import check_run_config, choices, choose_settings, describe_model, find_lr_run, results_table, running, train
from image_classifier.runs.choices import describe_choice
from image_classifier.training import fine_tuning, loop, lr_finder
from image_classifier.training import body_hash, Checkpoints, estimate_fine_tuning, FineTuning, fine_tune, fit
from image_classifier.training.freezing import layer_rates

MODES = ("auto", "head", "gradual", "all")


@cache
def digits():
    "Splits with 160 training digits: ten steps of sixteen."
    splits = load_data("digits")
    return replace(splits, train=splits.train.select(range(160)), valid=splits.valid.select(range(40)), test=splits.test.select(range(40)))


def tuned(mode, cache_dir, folder=None, step=None, max_minutes=0.0):
    "Fine-tune a network, stop after a step if one is given, and return network and result."
    network, stop = build_model("simple_cnn", classes=10, channels=1, size=8, dropout=0.3, seed=3), Stop()
    callbacks = [StopAt(step, stop)] if step else []
    hyper = Hyperparameters(optimizer="adamw", learning_rate=5e-3, num_epochs=3, batch_size=16, scheduler_type="onecycle")
    result = fine_tune(network, digits(), mode, hyperparameters=hyper, callbacks=callbacks, stop=stop, cache_dir=str(cache_dir),
                       checkpoints=folder and Checkpoints(folder), max_minutes=max_minutes)
    return network, result


@pytest.mark.parametrize("mode", MODES)
def test_a_fine_tuning_that_is_stopped_at_any_step_ends_with_the_same_weights(tmp_path, monkeypatch, mode):
    if mode == "gradual":  # these features are random, and the probe would be kept
        monkeypatch.setattr(fine_tuning, "paired_gain", lambda before, after: fine_tuning.Gain(1.0, 0.1))
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


@pytest.mark.parametrize("mode", ["auto", "gradual"])
def test_slower_features_do_not_end_a_training_that_has_begun(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(loop, "fit_time_budget", lambda state, minutes: setattr(state, "schedule", replace(state.schedule, epochs=3, deadline=1e6)))
    monkeypatch.setattr(fine_tuning, "paired_gain", lambda before, after: fine_tuning.Gain(1.0, 0.1))
    with pytest.raises(KeyboardInterrupt):
        tuned(mode, tmp_path / "cache", tmp_path / "run", 14, max_minutes=1.0)  # in the second epoch
    monkeypatch.setattr(fine_tuning, "all_reduce_max", lambda *values: 10 ** 9)  # milliseconds that the features have taken
    result = tuned(mode, tmp_path / "cache", tmp_path / "run", max_minutes=1.0)[1]
    assert result.about["kept"] == "all layers" and [row.step for row in result.history][:2] == [10, 20]
    assert tuned(mode, tmp_path / "cache", max_minutes=1.0)[1].about["kept"] == "probe"  # no time for a first step


class OwnReLU(nn.ReLU):
    "A layer whose code the package does not know."


def steps_of_trial(cache_dir, *, seed=42, lr=0.5, network_seed=3, callbacks=(), layer=None):
    "Fine-tune with steps that are much too large; return the number of steps, and what came of it."
    network, passes = build_model("simple_cnn", classes=10, channels=1, size=8, seed=network_seed), []
    if layer:
        network[3] = layer
    network.register_forward_pre_hook(lambda module, inputs: passes.append(module.training))
    hyper = Hyperparameters(optimizer="sgd", learning_rate=lr, num_epochs=2, batch_size=16)
    result = fine_tune(network, digits(), "auto", hyper, seed=seed, callbacks=callbacks, cache_dir=str(cache_dir))
    return sum(passes), result.about, tensors_hash(network.state_dict())


def test_an_epoch_that_did_not_help_is_not_trained_again_and_any_change_trains_it(tmp_path, caplog):
    with caplog.at_level("INFO", "image_classifier"):
        first, again = steps_of_trial(tmp_path), steps_of_trial(tmp_path)
    assert first[1]["kept"] == "probe" and first[0] == 10 and again == (0, *first[1:])
    assert [line.count("known from an earlier training") for line in caplog.messages if line.startswith("an epoch")] == [0, 1]
    for change in ({"seed": 1}, {"lr": 0.4}, {"network_seed": 4}, {"callbacks": [StopAt(10 ** 9, Stop())]}, {"layer": OwnReLU()}):
        assert steps_of_trial(tmp_path, **change)[0] >= 10, change
    assert len(list((tmp_path / "trials").glob("[0-9a-f]*.json"))) == 4  # own callbacks and layers leave none


def test_a_damaged_trial_is_trained_again(tmp_path):
    first = steps_of_trial(tmp_path)
    file, = (tmp_path / "trials").glob("[0-9a-f]*.json")
    text = file.read_text()
    for damaged in ("", "[]", '{"gain": 1}', '{"gain": [1]}', '{"gain": ["a", "b"]}', '{"gain": [1.0, 0.1]}', '{"gain": [NaN, 1.0]}'):
        file.write_text(damaged)
        trial = fine_tuning.TrialCallback(np.zeros(2), tmp_path)
        trial.name = file.name
        assert trial._known_gain() is None, damaged
    assert steps_of_trial(tmp_path) == first and file.read_text() == text


def test_a_cache_that_cannot_be_written_costs_only_the_time(tmp_path):
    (tmp_path / "trials").write_text("a file of the user")
    first = steps_of_trial(tmp_path)
    assert steps_of_trial(tmp_path) == first and (tmp_path / "trials").read_text() == "a file of the user"


def test_gradual_fine_tuning_never_ends_worse_than_its_probe(tmp_path):
    "With steps this large every epoch has a higher validation loss, so the probe is kept, and the body is what it was."
    network = build_model("simple_cnn", classes=10, channels=1, size=8, seed=3)
    before, head = {name: tensor.clone() for name, tensor in network.state_dict().items()}, find_classifier(network)
    result = fine_tune(network, digits(), "gradual", hyperparameters=Hyperparameters(optimizer="sgd", learning_rate=0.5, num_epochs=1, batch_size=16),
                       cache_dir=str(tmp_path))
    assert result.about["kept"] == "probe" and result.about["gain"]["mean"] < 0 and len(result.history) == 1
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items() if not name.startswith(head))
    assert not torch.equal(network.state_dict()[f"{head}.weight"], before[f"{head}.weight"])


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


@pytest.mark.parametrize("mode", ["head", None])  # by `fine_tune`, or by the user
def test_statistics_of_a_normalization_without_weights_do_not_move_behind_frozen_layers(mode):
    network = nn.Sequential(nn.BatchNorm2d(1, affine=False), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU(),
                            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    hyper = Hyperparameters(num_epochs=1, batch_size=80)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    if mode:
        fine_tune(network, digits(), mode, hyper)
    else:
        network[1].requires_grad_(False)
        fit(network, digits(), hyper)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    network.requires_grad_(True)
    fit(network, digits(), hyper)
    assert not any(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


@pytest.mark.parametrize("name", ["resnet18", "simple_cnn", "mobilenet_v2"])
def test_weight_and_bias_of_a_layer_learn_at_one_rate(name):
    network = build_model(name, classes=10, channels=1, size=32)
    rates = layer_rates(network, FineTuning(find_classifier(network), body_rate=0.01))
    assert set(rates) == set(network.parameters()) and set(rates.values()) == {0.01, 0.1, 1.0}
    assert all(len({rates[weight] for weight in layer.parameters(recurse=False)}) <= 1 for layer in network.modules())


def test_layers_without_a_rate_of_their_own_and_networks_without_a_head_are_refused():
    network = build_model("simple_cnn", classes=10, channels=1, size=8, seed=3)
    with pytest.raises(ConfigError, match="no layer fc"):
        fit(network, digits(), epochs=1, plan=FineTuning("fc"))
    with pytest.raises(ConfigError, match="linear layer"):
        fine_tune(build_model("squeezenet1_1", classes=10, channels=1, size=32), digits(), "probe", hyperparameters=Hyperparameters())


@pytest.mark.parametrize("mode", ["auto", "all"])
def test_a_network_without_a_linear_head_trains_all_of_its_layers(mode, caplog):
    network, hyper = build_model("squeezenet1_1", classes=10, channels=1, size=32), Hyperparameters(num_epochs=1, batch_size=16)
    def enlarged(part, count):
        few = part.select(range(count))
        return replace(few, images=few.images.repeat(4, 2).repeat(4, 3))
    small = replace(digits(), train=enlarged(digits().train, 16), valid=enlarged(digits().valid, 8), preprocess=replace(digits().preprocess, size=32))
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    assert estimate_fine_tuning(network, small, mode, hyper, seconds=0.1).probe_seconds == 0
    with caplog.at_level("INFO", "image_classifier"):
        assert fine_tune(network, small, mode, hyper).about == {"mode": "all"}
    assert sum(not torch.equal(weight, before[name]) for name, weight in network.named_parameters()) > len(before) / 2
    lines = [line for line in caplog.messages if line.endswith("so there is no probe, and all layers are trained")]
    assert len(lines) == (mode == "auto")
    for other in ("probe", "head", "gradual"):
        with pytest.raises(ConfigError, match="linear layer"):
            fine_tune(network, small, other, hyper)


@pytest.mark.parametrize("words", [["data=folder"], ["data=csv"], ["data=cifar10"]])
def test_a_probe_is_accepted_for_every_kind_of_data(words, tmp_path):
    "Presets of data without a root of its own are compared with, too."
    words = [*words, f"data.root={tmp_path}", "model=resnet18", "model.weights=DEFAULT", "finetune=probe"]
    assert check_run_config(compose(words)).finetune == "probe"
    with pytest.raises(ConfigError, match="no effect on a linear probe: hyperparameters.learning_rate"):
        check_run_config(compose([*words, "lr=0.7"]))


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


@pytest.mark.parametrize("word", ["epochs=3", "lr=0.1", "batch_size=16", "augment.trivial=true", "augment.erasing=0.1", "augment.resized_crop=0.5",
                                  "augment.randaugment=5", "augment.mixup=0.2", "hyperparameters.ema_decay=0.9", "hyperparameters.swa_start=0.5",
                                  "hyperparameters.label_smoothing=0.1", "max_minutes=3", "early_stopping_patience=3"])
def test_settings_without_effect_on_a_probe_are_refused_and_auto_takes_them(word):
    words, key = ["model=resnet18", "model.weights=DEFAULT", "data.size=64"], word.split("=")[0].split(".")[-1]
    name = {"epochs": "num_epochs", "lr": "learning_rate"}.get(key, key)
    with pytest.raises(ConfigError, match=rf"no effect on a linear probe: [\w.]*{name} \(finetune=probe\)"):
        choose_settings(compose([*words, word, "finetune=probe"]))
    choose_settings(compose([*words, word]))
    used = ["augment.tta=flip", "calibrate=false", "target_accuracy=0.9", "hyperparameters.class_weights=[balanced]", "seed=1", "device=cpu", "threads=1", "data.valid_fraction=0.2"]
    chosen = choose_settings(compose([*words, *used, "finetune=probe"]))
    assert choose_settings(chosen) == chosen  # with the hyperparameters of the recipe


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


def test_thumbnails_among_photos_do_not_make_them_small_images(tmp_path, monkeypatch):
    for number in range(20):
        save(tmp_path / "pets" / "ab"[number % 2] / f"{number}.png", picture(number, 200 if number < 7 else 40))
    words = [f"data={tmp_path / 'pets'}", f"data.cache_dir={tmp_path / 'cache'}", "device=cpu"]
    asked = compose(words)
    config = choose_settings(asked)
    assert config.model.name == (packaged_weights() or "resnet")
    if packaged_weights():
        assert config.data.size == 192 and "192 px (the most that is worth its time on a CPU)" in describe_choice(asked, config, 192)
        with monkeypatch.context() as patch:
            patch.setattr(choices, "choose_device", lambda name: torch.device("cuda"))
            assert "192 px (enough for images of this size)" in describe_choice(asked, config, 192)
    for number in range(3):
        (tmp_path / "pets" / "ab"[number % 2] / f"{number}.png").unlink()
    assert choose_settings(asked).model.name == "simple_cnn"


@pytest.mark.skipif(not packaged_weights(), reason="the extra pretrained is not installed")
@pytest.mark.parametrize("size", ["auto", 96])
def test_photos_that_are_loaded_with_the_chosen_size_are_trained_on_as_a_report_does(tmp_path, size):
    for number in range(24):
        save(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", picture(number, 140))
    asked = compose([f"data={tmp_path / 'photos'}", f"data.cache_dir={tmp_path / 'cache'}", f"data.size={size}", "finetune=probe", "device=cpu"])
    config = choose_settings(asked)
    run = train(asked, tmp_path / "run", splits=load_data(config.data))
    assert run.config == config and config.data.size == (128 if size == "auto" else size) == run.metrics["model"]["size"]
    assert train(asked, tmp_path / "run", splits=load_data(config.data)).reused


def test_another_dropout_rate_has_the_same_features():
    for name in ("resnet18", "simple_cnn"):
        keys = {body_hash(build_model(name, classes=10, channels=1, size=32, dropout=dropout, seed=1)) for dropout in (0.0, 0.2, 0.5)}
        assert len(keys) == 1, name


def test_a_search_for_a_learning_rate_that_nothing_uses_is_refused():
    with pytest.raises(ConfigError, match="a linear probe has no learning rate .* use finetune=head, gradual or all"):
        find_lr_run(compose(["data=digits", "model=resnet18", "model.weights=DEFAULT", "finetune=probe"]), digits())


@pytest.mark.parametrize("mode, factors, trained", [("gradual", {0.1, 0.1 ** 0.5, 1.0}, "all"), ("auto", {0.1, 0.1 ** 0.5, 1.0}, "all"), ("head", {1.0}, "head"),
                                                    ("all", {1.0}, "all")])
def test_a_learning_rate_is_searched_for_the_layers_that_the_fine_tuning_trains(monkeypatch, mode, factors, trained):
    network, seen = build_model("simple_cnn", classes=10, channels=1, size=8, seed=3), []
    def record(trial, batch):
        norms = {layer.training for layer in trial.model.modules() if isinstance(layer, nn.BatchNorm2d)}
        weights = sum(len(group["params"]) for group in trial.optimizer.param_groups if group["params"])
        seen.append(({group.get("lr_factor", 1.0) for group in trial.optimizer.param_groups if group["params"]}, norms, weights))
        raise DivergedError("enough")
    monkeypatch.setattr(lr_finder, "train_step", record)
    monkeypatch.setattr(running, "new_model", lambda *values: network)
    monkeypatch.setattr(running, "adopt_preprocess", lambda splits, model: splits)
    with pytest.raises(DivergedError, match="first step"):
        find_lr_run(compose(["data=digits", "model=resnet18", "model.weights=DEFAULT", f"finetune={mode}", "batch_size=16"]), digits())
    assert seen == [(factors, {mode == "all"}, 2 if trained == "head" else len(list(network.parameters())))]
def test_settings_that_a_kept_probe_does_not_use_are_named(tmp_path):
    "With this learning rate an epoch of all layers raises the loss, so the probe is kept."
    save_tensors(tmp_path / "a.safetensors", build_model("simple_cnn", classes=10, channels=1, size=8, seed=3).state_dict())
    words = ["model=simple_cnn", f"model.weights={tmp_path / 'a.safetensors'}", "lr=0.01", "epochs=1", "batch_size=16", "allow=[leaks]"]
    with pytest.warns(UserWarning, match=r"^hyperparameters.swa_start, augment.mixup had no effect, because the linear probe is kept"):
        run = train(compose([*words, "augment.mixup=0.2", "hyperparameters.swa_start=0.5"]), tmp_path / "run", splits=digits())
    assert run.metrics["fine_tuning"]["kept"] == "probe"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(compose(words), tmp_path / "plain", splits=digits())
    assert not [one for one in caught if "had no effect" in str(one.message)]
