"What a user loses if a configuration key has no effect: each key is changed here, and something else must change with it."
import threading
import warnings
from dataclasses import replace
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from folders import every_id, picture, save, warned
from torch import nn

from image_classifier.config import ALLOWED, build, CHANGE, check_config, compose, keys, settings
from image_classifier.core import ConfigError, DataError, ImageClassifierError, load_tensors, save_tensors
from image_classifier.data import AUGMENTATIONS, IDX_SETS, IndexedArrayView, load_data, register_augmentation
from image_classifier.models import build_model, seeded_init
from image_classifier.runs import train
from image_classifier.training import OPTIMIZERS, Callback, Checkpoints, fit, training_arguments

EXPERIMENTS = {}


def experiment(*names):
    "Register the proof that these keys have an effect; it is called with one of them, without its section, and an empty folder."
    def register(proof):
        for name in names:
            assert name not in EXPERIMENTS, f"two experiments for {name}"
            EXPERIMENTS[name] = proof
        return proof
    return register


@pytest.mark.parametrize("key", keys())
def test_key_changes_what_happens(key, tmp_path):
    assert key in EXPERIMENTS, f"no experiment shows that {key} has an effect"
    EXPERIMENTS[key](key.rpartition(".")[2], tmp_path)


def test_every_experiment_names_an_existing_key():
    assert set(EXPERIMENTS) == set(keys())


def test_key_without_experiment_fails(tmp_path):
    with pytest.raises(AssertionError, match="no experiment shows that data.color has an effect"):
        test_key_changes_what_happens("data.color", tmp_path)


# A small training run that is observed


PLAIN = {"hyperparameters.num_epochs": 1, "hyperparameters.batch_size": 32, "hyperparameters.optimizer": "sgd", "hyperparameters.momentum": 0.0,
         "hyperparameters.learning_rate": 0.1, "hyperparameters.weight_decay": 0.0, "hyperparameters.clip_grad_norm": 0.0,
         "hyperparameters.scheduler_type": "none", "hyperparameters.dropout": 0.0, "device": "cpu"}
SHORT = {setting.key.rpartition(".")[2]: setting.key for setting in settings().values()}


def configured(**changes):
    "Return a plain configuration with some keys changed; `name` is that of the data."
    return check_config(build({**PLAIN, **{SHORT[name] if name != "name" else "data.name": value for name, value in changes.items()}}))


@cache
def digits():
    "Return 64 digits to train on, 32 to validate and 16 to test."
    splits = load_data("digits")
    return replace(splits, train=splits.train.select(range(64)), valid=splits.valid.select(range(32)), test=splits.test.select(range(16)))


@cache
def mislabeled():
    "Return digits labeled 0 for training and 1 for validation: each step raises the validation loss."
    train, valid = digits().train, digits().valid
    return replace(digits(), train=replace(train, targets=train.targets * 0), valid=replace(valid, targets=valid.targets * 0 + 1))


class Recorder(Callback):
    "Record the weights after each step, the learning rates, and the inputs of the network."
    def __init__(self):
        self.weights, self.rates, self.train_inputs, self.eval_inputs = [], [], [], []

    def on_fit_start(self, state):
        self.weights.append(vector(state.model))
        self.hook = state.model.register_forward_pre_hook(
            lambda model, inputs: (self.train_inputs if model.training else self.eval_inputs).append(inputs[0].clone()))

    def on_step_end(self, state):
        self.weights.append(vector(state.model))
        self.rates.append(state.lr)

    def on_fit_end(self, state):
        self.hook.remove()


def vector(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def trained(splits=None, fully=False, **changes):
    "Train a small network with fixed initial weights; `fully`: a convolutional one, for images of any size."
    with seeded_init(0):
        model = (nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)) if fully else
                 nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)))
    recorder = Recorder()
    history = fit(model, splits or digits(), **training_arguments(configured(**changes)), callbacks=[recorder])
    return SimpleNamespace(model=model, history=history, step=recorder.weights[1] - recorder.weights[0], **vars(recorder))


def same(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second))


@cache
def plain():
    return trained()


def test_plain_training_is_repeatable():
    assert same(plain().weights, trained().weights) and same(plain().train_inputs, trained().train_inputs)


# Hyperparameters


@experiment("hyperparameters.learning_rate")
def doubled_rate_doubles_the_step(key, folder):
    torch.testing.assert_close(trained(learning_rate=0.2).step, 2 * plain().step)


@experiment("hyperparameters.weight_decay")
def weights_decay_and_biases_do_not(key, folder):
    pulled, matrix = trained(weight_decay=0.5), slice(0, 64 * 16)
    torch.testing.assert_close(pulled.step[matrix], plain().step[matrix] - 0.1 * 0.5 * plain().weights[0][matrix])
    assert torch.equal(pulled.step[64 * 16:64 * 16 + 16], plain().step[64 * 16:64 * 16 + 16])


@experiment("hyperparameters.momentum")
def second_step_continues_the_first(key, folder):
    heavy = trained(momentum=0.5)
    assert torch.equal(heavy.step, plain().step)
    torch.testing.assert_close(heavy.weights[2], plain().weights[2] + 0.5 * plain().step)


@experiment("hyperparameters.precision")
def products_have_fewer_digits(key, folder):
    rough = trained(precision="bfloat16").step
    assert torch.equal(trained(precision="float32").step, plain().step) and not torch.equal(rough, plain().step)
    torch.testing.assert_close(rough, plain().step, rtol=0, atol=0.01)


@experiment("hyperparameters.progressive_resizing_start")
def images_grow(key, folder):
    grown = trained(progressive_resizing_start=0.5, num_epochs=3, fully=True)
    assert [inputs.shape[-1] for inputs in grown.train_inputs] == [4, 4, 5, 6, 7, 8] and {inputs.shape[-1] for inputs in grown.eval_inputs} == {8}


@experiment("hyperparameters.nesterov")
def first_step_already_looks_ahead(key, folder):
    torch.testing.assert_close(trained(momentum=0.5, nesterov=True).step, 1.5 * plain().step)


@experiment("hyperparameters.ema_decay")
def average_is_evaluated_and_kept(key, folder):
    averaged = trained(ema_decay=0.9)
    assert same(averaged.weights, plain().weights) and not torch.allclose(vector(averaged.model), averaged.weights[-1])
    expected, keeps = plain().weights[0], (1 / 10, 2 / 11)
    for weights, keep in zip(plain().weights[1:], keeps):
        expected = torch.lerp(expected, weights, 1 - keep)
    torch.testing.assert_close(vector(averaged.model), expected)


@experiment("hyperparameters.swa_start")
def mean_of_the_last_weights_is_evaluated_and_kept(key, folder):
    averaged, whole = (trained(swa_start=share, num_epochs=4, scheduler_type="linear") for share in (0.5, 0.0))  # eight steps
    assert same(averaged.weights[:6], whole.weights[:6]) and averaged.rates[4:] == pytest.approx([0.05] * 4, rel=1e-4)
    best = min(averaged.history, key=lambda result: result.valid_loss)
    assert best.epoch == 4  # steps 5 to 8 are averaged
    torch.testing.assert_close(vector(averaged.model), torch.stack(averaged.weights[5:]).mean(0))


@experiment("hyperparameters.gradient_accumulation")
def parts_of_a_batch_are_computed_one_after_the_other(key, folder):
    cut = trained(gradient_accumulation=4)
    assert [len(inputs) for inputs in cut.train_inputs] == [8] * 8 and len(cut.rates) == 2
    torch.testing.assert_close(cut.step, plain().step)


@experiment("hyperparameters.optimizer")
def each_optimizer_steps_in_its_own_way(key, folder):
    assert set(settings()["hyperparameters.optimizer"].limits["choices"]) == set(OPTIMIZERS)
    steps = [trained(optimizer=name, weight_decay=0.5, fully=True).step for name in OPTIMIZERS]
    assert not any(torch.allclose(a, b) for i, a in enumerate(steps) for b in steps[:i])


@experiment("hyperparameters.num_epochs")
def history_has_one_row_per_epoch(key, folder):
    assert [len(trained(num_epochs=epochs).history) for epochs in (1, 3)] == [1, 3]


@experiment("hyperparameters.batch_size")
def epoch_has_as_many_steps_as_batches(key, folder):
    assert [len(trained(batch_size=size).rates) for size in (64, 32, 16)] == [1, 2, 4]


def rates(**changes):
    "Return the learning rates of the steps, two per epoch, while the validation loss rises."
    return trained(mislabeled(), **{"num_epochs": 4, "step_size": 2, "early_stopping_patience": 0, **changes}).rates


@experiment("hyperparameters.scheduler_type")
def each_schedule_has_its_own_rates(key, folder):
    found = {name: tuple(rates(scheduler_type=name)) for name in settings()["hyperparameters.scheduler_type"].limits["choices"]}
    assert found["none"] == (0.1,) * 8 and len(set(found.values())) == len(found)


@experiment("hyperparameters.warmup_epochs")
def rate_rises_first(key, folder):
    assert rates(num_epochs=2, warmup_epochs=1.0) == pytest.approx([0.05, 0.1, 0.1, 0.1])


@experiment("hyperparameters.step_size")
def cut_comes_later(key, folder):
    assert rates(scheduler_type="step", step_size=1) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 1e-4, 1e-4])
    assert rates(scheduler_type="step", step_size=3) == pytest.approx([0.1] * 6 + [0.01] * 2)
    assert rates(scheduler_type="plateau", step_size=1) == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)
    assert rates(scheduler_type="plateau", step_size=2) == pytest.approx([0.1] * 6 + [0.01] * 2)


@experiment("hyperparameters.gamma")
def cut_is_less_deep(key, folder):
    assert rates(scheduler_type="step", gamma=0.5) == pytest.approx([0.1] * 4 + [0.05] * 4)
    assert rates(scheduler_type="plateau", gamma=0.5)[-1] == pytest.approx(0.05)


@experiment("hyperparameters.min_lr")
def rate_ends_higher(key, folder):
    for name, lowest in (("cosine", 0.03), ("plateau", 0.02)):
        free, held = (rates(scheduler_type=name, min_lr=value) for value in (0.0, lowest))
        assert min(held) >= lowest > min(free)


@experiment("hyperparameters.label_smoothing")
def labels_are_smoothed_in_training_only(key, folder):
    smooth = trained(label_smoothing=0.5, learning_rate=1e-30)
    frozen = trained(learning_rate=1e-30)
    assert smooth.history[0].train_loss != frozen.history[0].train_loss and smooth.history[0].valid_loss == frozen.history[0].valid_loss
    assert not torch.allclose(trained(label_smoothing=0.5).step, plain().step)


@experiment("hyperparameters.class_weights")
def class_without_weight_teaches_nothing(key, folder):
    "With weights of 1 for one class and almost 0 for all others, the step is that of the images of this class alone."
    whole = replace(digits(), train=digits().train.select(range(32)))
    sevens = np.flatnonzero(whole.train.targets == 7)
    light = [f"{name}:1e-9" for name in whole.classes if name != "7"]
    weighted, alone = trained(whole, class_weights=light), trained(replace(whole, train=whole.train.select(sevens)), batch_size=len(sevens))
    torch.testing.assert_close(weighted.step, alone.step, rtol=1e-3, atol=1e-6)
    assert not torch.allclose(trained(class_weights=["balanced"]).step, plain().step)
    assert trained(class_weights=["7:5"], learning_rate=1e-30).history[0].valid_loss == trained(learning_rate=1e-30).history[0].valid_loss


@experiment("hyperparameters.focal_gamma")
def loss_of_easy_images_is_reduced(key, folder):
    losses = [trained(focal_gamma=gamma, learning_rate=1e-30).history[0].train_loss for gamma in (0.0, 1.0, 3.0)]
    assert losses[0] > losses[1] > losses[2] > 0 and not torch.allclose(trained(focal_gamma=2.0).step, plain().step)


@experiment("hyperparameters.balanced_sampling")
def small_classes_are_seen_as_often_as_large_ones(key, folder):
    rows = [*np.flatnonzero(digits().train.targets == 0)[:4], *np.flatnonzero(digits().train.targets == 1)[:1]]
    splits = replace(digits(), train=digits().train.select([*rows * 4]))  # 16 images of one class, 4 of another
    single = splits.preprocess.normalize(splits.train.images[4:5])[0]
    counts = {wanted: sum(int(np.array_equal(image.numpy(), single)) for inputs in trained(splits, balanced_sampling=wanted, batch_size=10).train_inputs
                          for image in inputs) for wanted in (False, True)}
    assert counts == {False: 4, True: 10}


@experiment("hyperparameters.hard_images")
def images_with_a_high_loss_are_seen_more_often(key, folder):
    found = trained(hard_images=0.5, num_epochs=2, learning_rate=1e-30)
    first, second = ([image.numpy().tobytes() for inputs in found.train_inputs[start:start + 2] for image in inputs] for start in (0, 2))
    assert len(set(first)) == 64 and len(second) == 64 and len(set(second)) == 32 and set(second) < set(first)
    assert found.history[1].train_loss > 1.05 * found.history[0].train_loss and found.history[1].valid_loss == found.history[0].valid_loss


def taught(teacher_seed=7, **changes):
    "Return the weights and the first step of a training that learns from a network with random weights."
    with seeded_init(teacher_seed):
        teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with seeded_init(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    fit(model, digits(), **training_arguments(configured(**changes)), callbacks=[recorder := Recorder()], teacher=teacher)
    return recorder.weights[1] - recorder.weights[0]


@experiment("hyperparameters.distill")
def network_learns_from_the_classifier_that_is_named(key, folder):
    first = ran(folder / "first", seed=1)
    plain_run, taught_run = (ran(folder / str(number), distill=teacher) for number, teacher in enumerate((None, str(first.path))))
    assert weights_of(plain_run) != weights_of(taught_run)
    assert not torch.allclose(taught(1), taught(2))


@experiment("hyperparameters.distill_weight")
def step_is_a_mean_of_two_steps(key, folder):
    only_teacher, quarter = taught(distill_weight=1.0), taught(distill_weight=0.25)
    torch.testing.assert_close(quarter, 0.75 * plain().step + 0.25 * only_teacher, rtol=1e-3, atol=1e-6)


@experiment("hyperparameters.distill_temperature")
def softer_predictions_are_compared(key, folder):
    assert not torch.allclose(taught(distill_temperature=1.0), taught(distill_temperature=8.0))


@experiment("hyperparameters.clip_grad_norm")
def step_length_is_limited(key, folder):
    assert plain().step.norm() > 0.1 * 0.01
    assert trained(clip_grad_norm=0.01).step.norm().item() == pytest.approx(0.1 * 0.01, rel=1e-3)


# Augmentation


@experiment("augment.horizontal_flip", "augment.translate", "augment.rotation", "augment.color_jitter", "augment.resized_crop", "augment.trivial", "augment.randaugment", "augment.erasing")
def images_are_augmented_in_training_only(key, folder):
    changed = trained(**{key: {"horizontal_flip": True, "translate": 0.2, "rotation": 30.0, "color_jitter": 0.5, "resized_crop": 0.3, "trivial": True, "randaugment": 9,
                               "erasing": 0.5}[key]})
    assert not torch.allclose(changed.train_inputs[0], plain().train_inputs[0]) and not torch.equal(changed.step, plain().step)
    assert same(changed.eval_inputs, plain().eval_inputs)
    if key == "horizontal_flip":
        unchanged, flipped = (torch.stack([(image == other).all() for image, other in zip(changed.train_inputs[0], given)])
                          for given in (plain().train_inputs[0], plain().train_inputs[0].flip(-1)))
        assert (unchanged | flipped).all() and unchanged.any() and flipped.any()


@experiment("augment.mixup", "augment.cutmix")
def training_images_are_mixed_in_pairs(key, folder):
    mixed, frozen = (trained(**{key: alpha}, learning_rate=1e-30) for alpha in (1.0, 0.0))
    assert same(mixed.eval_inputs, plain().eval_inputs) and not torch.allclose(trained(**{key: 1.0}).step, plain().step)
    given, found = frozen.train_inputs[0].flatten(1), mixed.train_inputs[0].flatten(1)
    pairs = [(image - given).abs() < 1e-6 for image in found]
    if key == "cutmix":  # each pixel is that of the image itself or of its partner
        assert all((equal[number] | equal).all(1).any() for number, equal in enumerate(pairs))
    rest = found - given  # mixup: the change points to the partner
    towards = torch.nn.functional.normalize(rest, dim=1)[:, None] * torch.nn.functional.normalize(given - given[:, None], dim=2)
    assert key == "cutmix" or (towards.sum(2).amax(1) > 0.999).all()


@experiment("augment.extra")
def registered_augmentation_changes_training_images_only(key, folder):
    register_augmentation("fade")(lambda pixels, draws, strength: pixels * (1 - strength))
    try:
        none, half, whole = (trained(extra=[f"fade:{strength}"]) for strength in (0, 0.5, 1))
    finally:
        del AUGMENTATIONS["fade"]
    assert same(none.train_inputs, plain().train_inputs) and same(whole.eval_inputs, plain().eval_inputs)
    black = whole.train_inputs[0]
    assert torch.allclose(half.train_inputs[0] - black, (none.train_inputs[0] - black) / 2, atol=1e-5) and not torch.equal(half.step, none.step)


@experiment("augment.tta")
def flip_average_predicts_the_same_for_the_mirror_image(key, folder):
    runs = {wanted: ran(folder / str(wanted), tta=wanted) for wanted in ("none", "flip", "crops")}
    classifiers = {wanted: run.classifier() for wanted, run in runs.items()}
    images = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), np.uint8)
    for wanted, classifier in classifiers.items():
        same_answer = np.allclose(classifier.probabilities(images), classifier.probabilities(images[..., ::-1].copy()), atol=1e-5)
        assert same_answer == (wanted != "none") and classifier.tta == wanted
    logits = {wanted: run.evaluation("test").logits for wanted, run in runs.items()}
    assert not any(np.array_equal(logits[one], logits[other]) for one, other in (("flip", "none"), ("crops", "none"), ("crops", "flip")))


# The run


def weights_of(run):
    return (run.path / "classifier" / "model.safetensors").read_bytes()


def ran(folder, splits=None, **changes):
    "Train a registered network and return its run."
    return train(configured(**changes), folder, splits=splits or digits())


@experiment("hyperparameters.dropout")
def dropout_layer_has_this_probability(key, folder):
    whole, half = (ran(folder / str(share), dropout=share) for share in (0.0, 0.5))
    assert weights_of(whole) != weights_of(half)
    assert [layer.p for layer in half.classifier().model.modules() if isinstance(layer, nn.Dropout)] == [0.5]


@experiment("seed")
def order_augmentation_and_initial_weights_change(key, folder):
    assert torch.equal(trained(seed=1).weights[0], plain().weights[0])  # a network that is passed in keeps its weights
    assert not torch.equal(trained(seed=1).train_inputs[0], plain().train_inputs[0])
    single = [trained(digits_of(1), seed=seed, translate=0.3, num_epochs=3, batch_size=1) for seed in (1, 2)]
    assert not same(single[0].train_inputs, single[1].train_inputs)
    frozen = [ran(folder / str(seed), seed=seed, learning_rate=1e-30) for seed in (1, 2)]
    assert not torch.allclose(*(vector(run.classifier().model) for run in frozen))


def digits_of(count):
    return replace(digits(), train=digits().train.select(range(count)))


@experiment("max_minutes")
def training_has_as_many_epochs_as_fit(key, folder):
    limited = trained(max_minutes=0.01, num_epochs=10_000, early_stopping_patience=0, scheduler_type="cosine", min_lr=0.0)
    assert 1 <= len(limited.history) < 10_000 and sum(result.seconds for result in limited.history) < 5
    assert limited.rates[-1] < limited.rates[0] or len(limited.history) == 1


@experiment("early_stopping_patience")
def training_stops_without_progress(key, folder):
    rows = [len(trained(mislabeled(), num_epochs=6, early_stopping_patience=patience).history) for patience in (1, 3, 0)]
    assert rows == [2, 4, 6]


@experiment("finetune")
def fewer_layers_are_fine_tuned(key, folder):
    save_tensors(folder / "weights.safetensors", build_model("simple_cnn", classes=10, channels=1, size=8, seed=5).state_dict())
    words = {**PLAIN, "model.name": "simple_cnn", "model.weights": str(folder / "weights.safetensors")}
    runs = {mode: train(build({**words, "finetune": mode}), folder / mode, splits=digits()) for mode in ("head", "all")}
    changed = {mode: sum(not torch.equal(tensor, load_tensors(folder / "weights.safetensors")[name])
                         for name, tensor in run.classifier().model.state_dict().items()) for mode, run in runs.items()}
    assert changed["head"] == 2 < changed["all"]


@experiment("model.name")
def another_network_is_trained(key, folder):
    runs = {name: train(build({**PLAIN, "model.name": name}), folder / name, splits=digits()) for name in ("simple_cnn", "resnet")}
    found = {name: (run.metrics["model"], set(run.classifier().model.state_dict())) for name, run in runs.items()}
    assert found["resnet"][0]["parameters"] != found["simple_cnn"][0]["parameters"] and found["resnet"][1] != found["simple_cnn"][1]


@experiment("model.library")
def same_name_is_another_network(key, folder):
    def run_with(library, name):
        return train(build({**PLAIN, "model.library": library, "model.name": name}), folder / library, splits=digits())
    with pytest.raises(ImageClassifierError):
        run_with("timm", "simple_cnn")  # not a network of timm, or timm is not installed
    pytest.importorskip("timm", reason="the extra timm is not installed")
    ours, theirs = (run_with(library, "resnet18").classifier().model for library in ("auto", "timm"))
    assert type(ours).__module__.startswith("torchvision") and type(theirs).__module__.startswith("timm")


@experiment("model.weights")
def training_starts_from_the_weights_of_a_run(key, folder):
    first = ran(folder / "first", seed=1)
    frozen = [ran(folder / str(number), learning_rate=1e-30, weights=weights) for number, weights in enumerate((None, str(first.path)))]
    equal = [torch.allclose(vector(run.classifier().model), vector(first.classifier().model)) for run in frozen]
    assert equal == [False, True]


@experiment("device")
def device_is_used_or_refused(key, folder):
    assert plain().train_inputs[0].device.type == "cpu"
    with pytest.raises(ConfigError, match="no CUDA device number 999"):
        trained(device="cuda:999")
    if torch.cuda.is_available():
        assert trained(device="cuda").train_inputs[0].device.type == "cuda"
    else:
        with pytest.raises(ConfigError, match="no CUDA device"):
            trained(device="cuda")


@experiment("compile")
def network_is_compiled(key, folder):
    "Only the capture is tested: generating machine code takes a minute and belongs to torch."
    with patch("torch.compile", partial(torch.compile, backend="eager")):
        torch.testing.assert_close(trained(compile=True).step, plain().step)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch._dynamo.reset()


@experiment("threads")
def training_uses_one_thread(key, folder):
    before = torch.get_num_threads()
    seen = CountThreads()
    fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), digits(), **training_arguments(configured(threads=1)), callbacks=[seen])
    assert seen.count == 1 and torch.get_num_threads() == before


class CountThreads(Callback):
    "Record the number of threads in training."
    def on_step_end(self, state):
        self.count = torch.get_num_threads()


class NondeterministicLayer(nn.Module):
    "A layer with an operation that has no deterministic form."
    def forward(self, inputs):
        return inputs.clone().put_(torch.tensor([0]), torch.zeros(1))


@experiment("deterministic")
def operation_without_a_deterministic_form_is_refused(key, folder):
    def with_put(wanted):
        return fit(nn.Sequential(NondeterministicLayer(), nn.Flatten(), nn.Linear(64, 10)), digits(), **training_arguments(configured(deterministic=wanted)))
    assert len(with_put(False)) == 1
    with pytest.raises(ConfigError, match="put_ has no deterministic implementation"):
        with_put(True)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("name", ["simple_cnn", "resnet"])
def test_networks_of_the_library_are_deterministic(name, tmp_path):
    first, second = (train(build({**PLAIN, "deterministic": True, "model.name": name, "augment.rotation": 10.0, "augment.horizontal_flip": True, "augment.color_jitter": 0.2}),
                           tmp_path / str(turn), splits=digits()) for turn in (1, 2))
    assert weights_of(first) == weights_of(second)


class Interrupt(Callback):
    "Raise an error at the start of the second epoch."
    def on_epoch_start(self, state):
        if state.epoch == 1:
            raise RuntimeError("interrupted")


def saved(folder, **changes):
    "Return the steps of the checkpoints of a training of two epochs."
    return Checkpoints(ran(folder, num_epochs=2, **changes).path / "checkpoints").list_steps()


@experiment("check_near_duplicates")
def near_duplicates_are_searched(key, folder):
    pets = {**drawn(folder / "pets", side=24), "cache_dir": str(folder / "cache"), "batch_size": 4}
    for number in range(20, 30):  # copies of one image, each a little darker
        save(folder / "pets" / "cat" / f"{number}.png", picture(7, 24).point(lambda value: value * (1 - number / 99)))
    for wanted in (True, False):
        config = configured(**pets, check_near_duplicates=wanted)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            run = train(config, folder / str(wanted))
        assert any("near duplicates" in str(one.message) for one in said) == wanted
        assert (run.metrics["data"]["test_seen"] is None) == (not wanted)


@experiment("calibrate")
def temperature_is_fitted(key, folder):
    runs = {wanted: ran(folder / str(wanted), calibrate=wanted) for wanted in (True, False)}
    assert "calibration" not in runs[False].metrics and runs[False].classifier().temperature == 1 != runs[True].classifier().temperature
    assert runs[True].metrics["test"]["ece"] != runs[False].metrics["test"]["ece"] == runs[True].metrics["calibration"]["ece_before"]["test"]
    assert weights_of(runs[True]) == weights_of(runs[False])


@experiment("target_accuracy")
def threshold_is_stored(key, folder):
    run = ran(folder / "some", target_accuracy=0.01)
    found, test = run.metrics["abstention"], run.evaluation("test").probabilities.max(1)
    assert run.classifier().threshold == found["threshold"] > 0
    assert found["test"]["coverage"]["value"] == (test >= found["threshold"]).mean()
    none = ran(folder / "none", target_accuracy=0.99)
    assert none.classifier().threshold is None and "no_threshold" in [one["code"] for one in none.metrics["warnings"]]


@experiment("checkpoint.every_steps", "checkpoint.every_minutes", "checkpoint.keep")
def number_of_checkpoints_changes(key, folder):
    value, more = {"every_steps": (1, {"keep": 99}), "every_minutes": (1e-9, {"keep": 99}), "keep": (1, {"every_steps": 1})}[key]
    usual, other = saved(folder / "usual", **more), saved(folder / "other", **{key: value}, **more)
    assert len(other) < len(usual) <= 3 if key == "keep" else len(other) > len(usual)


@experiment("resume")
def finished_run_is_returned_or_refused(key, folder):
    first = ran(folder / "run")
    assert not first.reused and ran(folder / "run", resume="auto").reused
    with pytest.raises(ConfigError, match="not empty"):
        ran(folder / "run", resume="never")
    assert train(configured(resume=str(folder / "run")), splits=digits()).path == folder / "run"


# The data


def drawn(folder, classes=("cat", "dog"), count=10, first=0, **options):
    "Write a folder of different pictures; return its `data.*` keys."
    for index, name in enumerate(classes):
        for number in range(count):
            save(folder / name / f"{number}.png", picture(first + 100 * index + number, **options))
    return {"name": "folder", "root": str(folder)}


def loaded(**changes):
    config = configured(**changes)
    return load_data(config.data, config.allow)


def refusal(**changes):
    with pytest.raises(DataError) as caught:
        loaded(**changes)
    return str(caught.value)


@experiment("data.name")
def another_source_is_read(key, folder):
    pets = drawn(folder)
    assert loaded(name="digits").classes == tuple("0123456789") and loaded(**pets).classes == ("cat", "dog")


@experiment("data.root")
def another_folder_is_read(key, folder):
    assert loaded(**drawn(folder / "pets")).classes == ("cat", "dog") and loaded(**drawn(folder / "fruit", ("fig", "pear"))).classes == ("fig", "pear")


@experiment("data.size", "data.channels")
def inputs_have_another_shape(key, folder):
    pets = drawn(folder)
    shapes = {value: loaded(**pets, **{key: value}).train.images.shape[1:] for value in ("auto", 4, 3, 1)}
    assert shapes == ({"auto": (3, 8, 8), 4: (3, 4, 4), 3: (3, 3, 3), 1: (3, 1, 1)} if key == "size" else
                      {"auto": (3, 8, 8), 4: (4, 8, 8), 3: (3, 8, 8), 1: (1, 8, 8)})


@experiment("data.resize")
def wide_images_become_square_in_another_way(key, folder):
    for number in range(8):
        save(folder / "ab"[number % 2] / f"{number}.png", picture(number, 16).crop((0, 4, 16, 12)))
    images = {rule: loaded(name="folder", root=str(folder), size=8, resize=rule).train.images for rule in ("crop", "stretch", "pad")}
    assert len({pixels.tobytes() for pixels in images.values()}) == 3
    assert not images["pad"][:, :, 0].any() and images["crop"][:, :, 0].any()


@experiment("data.valid_fraction", "data.test_fraction")
def split_has_another_size(key, folder):
    pets = drawn(folder)
    sizes = [len(getattr(loaded(**pets, **{key: share}), key.removesuffix("_fraction"))) for share in (0.1, 0.4)]
    assert sizes[1] > sizes[0]


@experiment("data.split_seed")
def other_images_are_in_the_test_split(key, folder):
    pets = drawn(folder)
    first, second = (loaded(**pets, split_seed=seed) for seed in (1, 2))
    assert set(first.test.ids) != set(second.test.ids) and set(every_id(first)) == set(every_id(second))


@experiment("data.train_fraction", "data.train_fraction_seed", "data.train_repeat_to")
def part_of_the_training_images_is_repeated(key, folder):
    pets = drawn(folder)
    values = {"train_fraction": (0.4, 0.8), "train_fraction_seed": (1, 2), "train_repeat_to": (0, 50)}[key]
    whole, (first, second) = loaded(**pets), (loaded(**{**pets, "train_fraction": 0.6, key: value}) for value in values)
    assert all(one.test.ids == whole.test.ids and {*one.train.ids} < {*whole.train.ids} for one in (first, second))
    assert first.fingerprint != second.fingerprint and first.preprocess == whole.preprocess
    if key == "train_fraction":
        assert {*first.train.ids} < {*second.train.ids}
    elif key == "train_repeat_to":
        assert {*first.train.ids} == {*second.train.ids} and len(second.train) == 50
    else:
        assert {*first.train.ids} != {*second.train.ids} and len(first.train) == len(second.train)


def listed(folder):
    "Write a table of pictures with two columns for each role; return its `data.*` keys."
    drawn(folder, ("cat", "dog", "fig", "pear"))
    lines = ["file,other_file,label,other_label,part,owner"]
    for number in range(20):
        kind, row = number // 10, number % 10
        lines.append(f"{('cat', 'dog')[kind]}/{row}.png,{('fig', 'pear')[kind]}/{row}.png,{('cat', 'dog')[kind]},{('old', 'young')[row % 2]},"
                     f"{'test' if row == 3 else 'train'},{row // 2}{kind}")
    (folder / "table.csv").write_text("\n".join(lines))
    return {"name": "csv", "root": str(folder / "table.csv")}


@experiment("data.file_column", "data.label_column", "data.split_column", "data.group_column")
def another_column_is_read(key, folder):
    table = listed(folder)
    other = {"file_column": "other_file", "label_column": "other_label", "split_column": "part", "group_column": "owner"}[key]
    plain, changed = loaded(**table), loaded(**table, **{key: other})
    if key == "file_column":
        assert {id[:3] for id in every_id(plain)} == {"cat", "dog"} and {id[:3] for id in every_id(changed)} == {"fig", "pea"}
    if key == "label_column":
        assert plain.classes == ("cat", "dog") and changed.classes == ("old", "young")
    if key == "split_column":
        assert set(changed.test.ids) == {"cat/3.png", "dog/3.png"} != set(plain.test.ids)
    if key == "group_column":
        assert plain.train.groups is None
        assert not set(changed.train.groups) & set(changed.test.groups) and not set(changed.train.groups) & set(changed.valid.groups)


@experiment("data.group_pattern")
def images_with_an_equal_match_stay_together(key, folder):
    changed = loaded(**drawn(folder), group_pattern=r"\w+/\d")
    assert changed.train.groups is not None and not set(changed.train.groups) & set(changed.test.groups)


@experiment("data.class_level")
def folders_at_another_level_are_the_classes(key, folder):
    pets = drawn(folder, ("pets/cat", "pets/dog", "wild/fox"))
    assert loaded(**pets, class_level=1).classes == ("pets", "wild") and loaded(**pets, class_level=2).classes == ("cat", "dog", "fox")


@experiment("data.formats")
def other_files_are_read(key, folder):
    pets = drawn(folder)
    save(folder / "cat" / "film.gif", picture(999))
    assert "cat/film.gif" not in every_id(warned(configured(**pets).data)[0])
    assert "cat/film.gif" in every_id(warned(configured(**pets, formats=["png", "gif"]).data)[0])


@experiment("data.exclude")
def excluded_image_is_left_out(key, folder):
    pets = drawn(folder / "pets")
    (folder / "out.txt").write_text("# blurred\ncat/3.png\n")
    assert set(every_id(loaded(**pets))) - set(every_id(loaded(**pets, exclude=str(folder / "out.txt")))) == {"cat/3.png"}


@experiment("data.corrections")
def corrected_label_is_used_and_the_splits_stay(key, folder):
    pets = drawn(folder / "pets")
    plain = loaded(**pets)
    wrong = next(id for id in plain.train.ids if id.startswith("cat"))
    (folder / "reviewed.csv").write_text(f"id,decision\n{wrong},dog\n")
    changed = loaded(**pets, corrections=str(folder / "reviewed.csv"))
    labels, now = ({id: name for part in (splits.train, splits.valid, splits.test) for id, name in
                    zip(part.ids, np.array(part.classes)[part.targets])} for splits in (plain, changed))
    assert plain.test.ids == changed.test.ids and labels | {wrong: "dog"} == now


@experiment("data.max_pixels", "data.max_bytes")
def large_image_is_refused(key, folder):
    pets = drawn(folder)
    save(folder / "cat" / "large.png", picture(999, 32))
    assert len(every_id(loaded(**pets))) == 21
    assert f"data.{key}" in refusal(**pets, **{key: 1000}) and "cat/large.png" in refusal(**pets, **{key: 1000})


@experiment("data.memory_limit", "data.cache_dir")
def images_are_mapped_from_the_cache_folder(key, folder):
    pets = {**drawn(folder / "pets"), "cache_dir": str(folder / "cache")}
    kept, mapped = loaded(**pets), loaded(**pets, memory_limit=0)
    assert isinstance(kept.train.images, np.ndarray) and isinstance(mapped.train.images, IndexedArrayView)
    assert mapped.fingerprint == kept.fingerprint and list((folder / "cache").rglob("images.bin"))
    loaded(**{**pets, "cache_dir": str(folder / "elsewhere")}, memory_limit=0)
    assert list((folder / "elsewhere").rglob("images.bin"))


@experiment("data.cache_limit")
def least_recently_used_images_are_deleted(key, folder):
    pets = {**drawn(folder / "pets"), "memory_limit": 0}
    for limit, kept in ((50_000, 2), (6_000, 1)):
        for size in (8, 9):
            loaded(**pets, size=size, cache_limit=limit, cache_dir=str(folder / str(limit)))
        assert len(list((folder / str(limit)).rglob("images.bin"))) == kept


class NotFound(BaseHTTPRequestHandler):
    "A server without files, which records the requests."
    def do_GET(self):
        self.server.requests.append(self.path)
        self.send_error(404)

    def log_message(self, *args):
        pass


@experiment("data.download")
def data_set_is_downloaded_or_not(key, folder):
    with ThreadingHTTPServer(("127.0.0.1", 0), NotFound) as server, pytest.MonkeyPatch.context() as patch:
        server.requests = []
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setitem(IDX_SETS, "mnist", IDX_SETS["mnist"]._replace(mirrors=(f"http://127.0.0.1:{server.server_address[1]}/",)))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            mnist = {"name": "mnist", "cache_dir": str(folder)}
            assert "data.download is off" in refusal(**mnist, download=False) and not server.requests
            assert "could not download" in refusal(**mnist, download=True) and server.requests
        finally:
            server.shutdown()
            thread.join()


# Checks that `allow` relaxes


def damaged(folder):
    pets = drawn(folder)
    (folder / "cat" / "broken.png").write_bytes(b"")
    return pets


def linked(folder):
    pets = drawn(folder / "pets")
    save(folder / "outside.png", picture(999))
    (folder / "pets" / "cat" / "link.png").symlink_to(folder / "outside.png")
    return pets


def without_images(folder):
    pets = drawn(folder)
    (folder / "eel").mkdir()
    return pets


def letters_in_two_cases(folder):
    pets = drawn(folder)
    (folder / "dog").rename(folder / "Cat")
    return pets


def leaking(folder):
    return {**listed(folder), "split_column": "part", "group_column": "owner"}


def changed_seed_resumes_only_if_allowed(folder):
    with pytest.raises(RuntimeError, match="interrupted"):
        train(configured(num_epochs=2), folder, callbacks=[Interrupt()], splits=digits())
    with pytest.raises(ConfigError, match="seed 42 there, 1 now"):
        ran(folder, num_epochs=2, seed=1)
    with pytest.warns(UserWarning, match="seed 42 then, 1 now"):
        assert ran(folder, num_epochs=2, seed=1, allow=[CHANGE]).finished


@experiment("allow")
def each_word_relaxes_its_check_only(key, folder):
    wrong = {"corrupt": damaged, "links": linked, "empty_class": without_images, "similar_classes": letters_in_two_cases, "leaks": leaking}
    assert {*wrong, CHANGE} == set(ALLOWED)
    changed_seed_resumes_only_if_allowed(folder / "change")
    for word, make in wrong.items():
        data = make(folder / word)
        refusal(**data, allow=[other for other in ALLOWED if other != word])
        with pytest.raises(DataError):
            train(configured(**data), folder / "run" / word)
        config = configured(**data, allow=[word])
        splits = warned(config.data, config.allow)[0]
        assert len(every_id(splits)) == (21 if word == "links" else 20)
        assert splits.classes == {"empty_class": ("cat", "dog", "eel"), "similar_classes": ("Cat", "cat")}.get(word, ("cat", "dog"))


def test_run_applies_allow(tmp_path):
    with pytest.warns(UserWarning, match="1 damaged image is left out"):
        run = train(configured(**damaged(tmp_path / "pets"), allow=["corrupt"], batch_size=4), tmp_path / "run")
    assert run.finished


def test_keys_of_a_run_reach_it_as_overrides(tmp_path):
    "The experiments set keys directly; a shell sets them by overrides."
    config = compose(["epochs=1", "batch_size=32", "hyperparameters.optimizer=sgd", "device=cpu", "early_stopping_patience=1"])
    assert len(train(config, tmp_path, splits=digits()).history) == 1
