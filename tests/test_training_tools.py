"Losses, mixing, balanced sampling, averages and the learning-rate finder: right in parts, exactly resumed, refused where they cannot work."
import hashlib
import json
import random
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from small_training import StopAt
from torch import nn

from image_classifier.cli.app import main
from image_classifier.config import AugmentConfig, Hyperparameters, compose
from image_classifier.core import ArtifactError, ConfigError, DataError, Stop
from image_classifier.data import load_data
from image_classifier.metrics import predict_logits
from image_classifier.models import build_model, seeded_init
from image_classifier.runs import train
from image_classifier.training import Checkpoints, estimate, find_lr, fit, LRFinder


@cache
def digits():
    "Return 48 digits in three batches of 16, and 16 to validate and test."
    splits = load_data("digits")
    return replace(splits, train=splits.train.select(range(48)), valid=splits.valid.select(range(16)), test=splits.test.select(range(16)))


def network(seed=0):
    with seeded_init(seed):
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 10))


def fitted(folder=None, stop_at=None, splits=None, augment=AugmentConfig(), teacher=None, model=None, **settings):
    "Return all weights and the history of a training of four epochs of three steps."
    model, stop = model or network(), Stop()
    hyper = Hyperparameters(**{"num_epochs": 4, "batch_size": 16, "learning_rate": 0.01, "scheduler_type": "cosine", **settings})
    history = fit(model, splits or digits(), hyper, augment=augment, checkpoints=folder and Checkpoints(folder), stop=stop,
                  callbacks=[StopAt(stop_at, stop)], teacher=teacher, seed=3)
    return [tensor.tolist() for tensor in model.state_dict().values()], [replace(result, seconds=0) for result in history]


# Every technique resumes exactly

TECHNIQUES = {
    "mixup": dict(augment=AugmentConfig(mixup=0.4)), "cutmix": dict(augment=AugmentConfig(cutmix=1.0)),
    "both": dict(augment=AugmentConfig(mixup=0.4, cutmix=1.0, translate=0.1), gradient_accumulation=3),
    "class weights": dict(class_weights=["balanced"], focal_gamma=1.0, ema_decay=0.9),
    "balanced sampling": dict(balanced_sampling=True, augment=AugmentConfig(translate=0.2), batch_size=15),
    "swa": dict(swa_start=0.4, scheduler_type="none", augment=AugmentConfig(translate=0.1)), "swa, early": dict(swa_start=0.1, optimizer="sgd", warmup_epochs=1.0),
    "policies": dict(augment=AugmentConfig(trivial=True, resized_crop=0.3, erasing=0.5, color_jitter=0.2, rotation=10.0)),
    "randaugment": dict(augment=AugmentConfig(randaugment=15, mixup=0.2), balanced_sampling=True),
    "hard images": dict(hard_images=0.4, augment=AugmentConfig(translate=0.2), gradient_accumulation=2), "hard, mixed": dict(hard_images=0.8, augment=AugmentConfig(mixup=0.4)),
    "distillation": dict(teacher=network(9), augment=AugmentConfig(mixup=0.4)),
}


@pytest.mark.parametrize("name", TECHNIQUES)
def test_a_training_stopped_at_random_steps_ends_with_identical_weights(name, tmp_path):
    settings, random_steps = TECHNIQUES[name], random.Random(name)
    expected = fitted(**settings)
    assert expected != fitted(batch_size=settings.get("batch_size", 16))
    for turn, step in enumerate((random_steps.randint(1, 2), random_steps.randint(4, 11))):  # one in the first epoch
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path / str(turn), step, **settings)
        assert fitted(tmp_path / str(turn), **settings) == expected, step


def test_a_checkpoint_from_before_these_settings_still_resumes(tmp_path):
    expected = fitted()
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path, 5)
    [step] = tmp_path.glob("step_*[5]")
    state = json.loads((step / "state.json").read_text())
    new = {key for key in state["made_with"] if key.rpartition(".")[2] in NEW_KEYS}
    assert {key.rpartition(".")[2] for key in new} == NEW_KEYS
    from image_classifier.core import write_json, write_manifest
    write_json(step / "state.json", state | {"made_with": {key: value for key, value in state["made_with"].items() if key not in new}})
    write_manifest(step)
    assert fitted(tmp_path) == expected


NEW_KEYS = {"swa_start", "resized_crop", "trivial", "randaugment", "erasing", "mixup", "cutmix", "class_weights", "focal_gamma", "balanced_sampling", "hard_images", "distill_weight", "distill_temperature", "teacher"}


@pytest.mark.parametrize("settings, text", [(dict(focal_gamma=1.0), "focal_gamma 0.0 then, 1.0 now"), (dict(augment=AugmentConfig(mixup=0.1)), "augment.mixup 0.0 then, 0.1 now"),
                                            (dict(teacher=network(9)), "teacher None then, [0-9a-f]{16} now"), (dict(class_weights=["1:2"]), "class_weights")])
def test_another_technique_is_another_training(settings, text, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path, 5)
    with pytest.raises(ConfigError, match=text):
        fitted(tmp_path, **settings)


# Losses


@pytest.mark.parametrize("settings", [dict(class_weights=["0:5", "1:0.1", "7:3"]), dict(class_weights=["balanced"], label_smoothing=0.1, focal_gamma=0.5),
                                      dict(class_weights=["0:9"], teacher=network(9)), dict(class_weights=["0:9"], augment=AugmentConfig(cutmix=1.0))])
def test_parts_of_a_batch_add_up_to_the_whole_with_weights(settings):
    "In a network without batch normalization and dropout."
    def model():
        with seeded_init(0):
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    (whole, _), (parts, _) = (fitted(model=model(), optimizer="sgd", gradient_accumulation=count, **settings) for count in (1, 5))
    for a, b in zip(whole, parts):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_classes_that_mixing_smoothing_and_weights_meet_have_the_loss_of_torch():
    from image_classifier.training import soft_cross_entropy
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(30, 5, generator=generator), torch.randint(0, 5, (30,), generator=generator)
    weights, share = torch.rand(5, generator=generator) + 0.1, 0.3
    other = labels.roll(1)
    shares = nn.functional.one_hot(labels, 5) * share + nn.functional.one_hot(other, 5) * (1 - share)
    found = soft_cross_entropy(logits, shares, weights, 0.2)
    sums = [nn.functional.cross_entropy(logits, targets, weights, reduction="sum", label_smoothing=0.2) for targets in (labels, other)]
    torch.testing.assert_close(found, (share * sums[0] + (1 - share) * sums[1]) / (share * weights[labels] + (1 - share) * weights[other]).sum())


def test_a_class_without_images_does_not_disturb_balanced_weights():
    splits = digits()
    rows = np.flatnonzero(splits.train.targets != 3)
    few = replace(splits, train=splits.train.select(rows[:32]))
    weights, _ = fitted(splits=few, class_weights=["balanced"])
    assert np.isfinite(np.concatenate([np.ravel(values) for values in weights])).all()
    assert fitted(splits=few, balanced_sampling=True)[1]


@pytest.mark.parametrize("words, text", [
    ("hyperparameters.class_weights=[cat:2]", r"unknown class cat \(hyperparameters.class_weights\)"),
    ("hyperparameters.class_weights=[0:2,0:3]", "class_weights names 0 twice"),
    ("hyperparameters.class_weights=[0:0]", "class_weights must be > 0, got 0 for 0"),
    ("hyperparameters.class_weights=[balanced,0:2]", "has balanced and weights of classes. give one of them"),
    ("hyperparameters.class_weights=blanced", "must be balanced, or a list of classes with weights such as .cat:2,dog:1., got 'blanced'"),
    ("hyperparameters.class_weights=[0:-2]", "must be balanced, or a list of classes with weights"),
    ("hyperparameters.class_weights=balanced hyperparameters.balanced_sampling=true", "both make the classes count the same"),
    ("hyperparameters.hard_images=0.5 hyperparameters.balanced_sampling=true", "both choose which images are visited. use one of them: hyperparameters.hard_images=1 visits all"), ("hyperparameters.hard_images=0", "hard_images must be a finite number > 0 and <= 1"),
    ("hyperparameters.focal_gamma=-1", "focal_gamma must be a finite number >= 0"), ("augment.mixup=nan", "augment.mixup must be a finite number"),
    ("hyperparameters.distill=/nowhere/run", "/nowhere/run"), ("hyperparameters.swa_start=0.5 hyperparameters.ema_decay=0.9", "both average the weights. use one of them"),
    ("hyperparameters.swa_start=1", "swa_start must be a finite number >= 0 and < 1"), ("augment.trivial=true augment.randaugment=9", "both pick operations at random. use one of them"),
    ("augment.randaugment=31", "augment.randaugment must be >= 0 and <= 30, got 31"), ("augment.erasing=1.5", "augment.erasing must be a finite number >= 0 and <= 1"),
])
def test_settings_that_cannot_work_are_one_line_and_leave_nothing_behind(words, text, tmp_path):
    with pytest.raises((ConfigError, ArtifactError, DataError), match=text) as caught:
        train(compose(["epochs=1", *words.split()]), tmp_path / "run", splits=load_data("digits"))
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_class_weights_have_the_same_form_in_yaml_lists_and_notebooks(tmp_path):
    from image_classifier.config import from_parameters, to_yaml
    told = compose(["hyperparameters.class_weights=[cat:2,a b:0.5]"])
    (tmp_path / "config.yaml").write_text(to_yaml(told))
    assert told.hyperparameters.class_weights == ["cat:2", "a b:0.5"] and compose(file=tmp_path / "config.yaml") == told
    assert from_parameters(overrides="hyperparameters.class_weights='[cat:2,a b:0.5]'").hyperparameters.class_weights == ["cat:2", "a b:0.5"]


# Mixing


@pytest.mark.parametrize("augment", [AugmentConfig(mixup=0.2), AugmentConfig(cutmix=1.0)])
def test_mixing_with_one_class_or_one_image_is_refused_before_training(augment):
    single = replace(digits(), **{part: replace(getattr(digits(), part), targets=getattr(digits(), part).targets * 0, classes=("0",))
                                  for part in ("train", "valid", "test")})
    with pytest.raises(ConfigError, match="a single class cannot be mixed .augment.(mixup|cutmix).. set"):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), single, epochs=1, batch_size=16, augment=augment)
    with pytest.raises(ConfigError, match="a batch of one image cannot be mixed"):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), digits(), epochs=1, batch_size=1, augment=augment)


# Balanced sampling


def test_a_repeated_image_is_augmented_differently_each_time():
    rows = [*np.flatnonzero(digits().train.targets == 0)[:4], np.flatnonzero(digits().train.targets == 1)[0]]
    splits = replace(digits(), train=digits().train.select([*rows[:4] * 5, rows[4]]))  # 20 images of one class, one of another
    seen = []
    model = network()
    model.register_forward_pre_hook(lambda model, inputs: seen.extend(inputs[0].clone()) if model.training else None)
    fit(model, splits, Hyperparameters(num_epochs=1, batch_size=20, balanced_sampling=True), augment=AugmentConfig(rotation=90.0, color_jitter=0.9))
    fit(other := network(), splits, Hyperparameters(num_epochs=1, batch_size=20, balanced_sampling=True))
    assert len(seen) == 20 and len({image.numpy().tobytes() for image in seen}) == 20 and other is not model


# Weight averaging


def test_the_mean_of_the_weights_gets_its_own_statistics_of_batch_normalization():
    "The statistics of the validated network are those of training images under the mean weights, to the last bit."
    from image_classifier.data import batches
    from image_classifier.core import permutation
    from image_classifier.training.norm_statistics import estimate_norm_statistics
    fitted(model=(model := network()), swa_start=0.3, scheduler_type="none")
    expected = network()
    expected.load_state_dict(model.state_dict())
    rows = permutation(48, 3, 0)
    estimate_norm_statistics(expected, ["1"], (part.inputs for part in batches(digits().train, digits().preprocess, 16, rows)))
    assert torch.equal(expected[1].running_mean, model[1].running_mean) and torch.equal(expected[1].running_var, model[1].running_var)
    assert not model.training


def test_a_frozen_normalization_is_not_estimated_again():
    class Frozen(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)
    model = network()
    model[1] = Frozen(8)
    fitted(model=model, swa_start=0.3)
    assert torch.equal(model[1].running_mean, torch.zeros(8)) and torch.equal(model[1].running_var, torch.ones(8))


# Distillation


def test_a_student_learns_from_a_run_and_resumes_only_with_the_same_teacher(tmp_path):
    words = ["epochs=2", "batch_size=16", "hyperparameters.dropout=0"]
    teacher = train(compose(words), tmp_path / "teacher", splits=digits())
    config = compose([*words, "lr=0.002", f"hyperparameters.distill={teacher.path}"])
    run = train(config, tmp_path / "run", splits=digits())
    stored = json.loads((run.path / "environment.json").read_text())
    assert len(stored["teacher"]) == 64 and train(config, tmp_path / "run", splits=digits()).reused
    other = train(compose([*words, "seed=7"]), tmp_path / "other", splits=digits())
    shutil.rmtree(teacher.path / "classifier")
    shutil.copytree(other.path / "classifier", teacher.path / "classifier")
    with pytest.raises(ConfigError, match="the weights that the run learned from have changed"):
        train(config, tmp_path / "run", splits=digits())


def test_a_teacher_that_has_seen_the_test_images_is_a_leak(tmp_path):
    words = ["epochs=1", "batch_size=16"]
    teacher = train(compose(words), tmp_path / "teacher", splits=digits())
    leaking = replace(digits(), test=digits().train.select(range(8)), train=digits().train.select(range(8, 48)))
    with pytest.raises(DataError, match="8 of 8 test images were used to train the teacher"):
        train(compose([*words, f"hyperparameters.distill={teacher.path}"]), tmp_path / "run", splits=leaking)


def test_a_teacher_is_left_as_it_was_and_its_cost_is_estimated():
    teacher = network(9).train()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    fitted(teacher=teacher)
    assert teacher.training and all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert estimate(network(), digits(), epochs=1, batch_size=16, seconds=0.05, teacher=teacher).seconds > 0


# The learning-rate finder


def state_of(model):
    "Return a hash of weights and buffers, modes, and the generators of torch, NumPy and Python."
    total = hashlib.sha256(repr((random.getstate(), np.random.get_state(), [module.training for module in model.modules()])).encode())
    total.update(torch.get_rng_state().numpy().tobytes())
    for name, tensor in model.state_dict().items():
        total.update(name.encode() + tensor.numpy().tobytes())
    return total.hexdigest()


@pytest.mark.parametrize("settings", [{}, dict(hyperparameters=Hyperparameters(batch_size=16, optimizer="sgd", swa_start=0.5, class_weights=["balanced"])),
                                      dict(augment=AugmentConfig(trivial=True, cutmix=1.0), teacher=network(9))])
def test_a_search_changes_nothing_and_a_training_after_it_is_the_same(settings):
    searched, fresh = network(), network()
    optimizer = torch.optim.Adam(searched.parameters())
    before = state_of(searched), repr(optimizer.state_dict())
    found = find_lr(searched, digits(), **settings, **({} if "hyperparameters" in settings else {"batch_size": 16}), steps=30)
    assert (state_of(searched), repr(optimizer.state_dict())) == before and len(found.rates) == len(found.losses) > 10
    assert all(weight.grad is None for weight in searched.parameters())
    assert fitted(model=searched) == fitted(model=fresh)


def test_a_search_is_repeatable_and_depends_on_the_seed():
    first, again, other = (find_lr(network(), digits(), batch_size=16, seed=seed, steps=25) for seed in (1, 1, 2))
    assert first == again != other


def test_the_suggested_rate_trains_digits_well():
    splits = load_data("digits")
    for optimizer in ("adam", "sgd"):
        hyper = Hyperparameters(optimizer=optimizer, num_epochs=8, scheduler_type="onecycle", dropout=0.0)
        model = build_model("simple_cnn", channels=1, classes=10, size=8, seed=1)
        rate = find_lr(model, splits, hyper).suggestion
        fit(model, splits, replace(hyper, learning_rate=rate))
        accuracy = (predict_logits(model, splits.test, splits.preprocess).argmax(1).numpy() == splits.test.targets).mean()
        assert accuracy >= 0.97, (optimizer, rate, accuracy)


def test_a_search_that_learns_nothing_or_breaks_at_once_says_so():
    frozen = network()
    frozen[6].weight.data.zero_()
    nothing = find_lr(frozen.requires_grad_(True), digits(), batch_size=16, steps=20, lowest=1e-30, highest=1e-29)
    assert nothing.suggestion is None or nothing.suggestion > 0
    assert "use more steps, or check images and labels" in str(LRFinder((1e-3,) * 20, tuple(map(float, range(20)))))
    broken = network()
    broken[6].bias.data.fill_(float("nan"))
    with pytest.raises(ConfigError, match="output for one image is not finite"):
        find_lr(broken, digits(), batch_size=16)


def test_find_lr_on_the_command_line_writes_one_new_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["find-lr", "data=digits", "--out", "lr.png", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 1e-5 < found["suggestion"] < 0.1 and len(found["rates"]) == len(found["smoothed"])
    assert [path.name for path in tmp_path.iterdir()] == ["lr.png"]
    assert main(["find-lr", "data=digits", "--out", "lr.png"]) == 2 and "the file exists" in capsys.readouterr().err
