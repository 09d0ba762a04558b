"Training: divergence is reported at its step, the best weights survive, and the caller's random state does not change."
import copy
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from image_classifier.config import compose, Hyperparameters
from image_classifier.core import ConfigError, DivergedError
from image_classifier.data import load_data
from image_classifier.inference import Classifier
from image_classifier.models import Architecture, build_model, seeded_init
from image_classifier.training import Callback, Checkpoints, epoch_order, fit, snapshot, TimeEstimate, training_arguments


@cache
def digits():
    "Splits with 96 training and 32 validation digits."
    splits = load_data("digits")
    return replace(splits, train=splits.train.select(range(96)), valid=splits.valid.select(range(32)))


def configured(*overrides):
    return compose(["batch_size=32", "device=cpu", "hyperparameters.scheduler_type=none", *overrides])


def network():
    with seeded_init(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10))


def with_pixel(dataset, row, value):
    "Return the images as floats, with one pixel of one image set to `value`."
    images = dataset.images.astype(np.float32)
    images[row, 0, 4, 4] = value
    return replace(dataset, images=images)


def finite(model):
    return all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def diverges(model, splits, config, callbacks=()):
    "Check that training diverges with exit code 5 and names a smaller learning rate; return the error's line."
    with pytest.raises(DivergedError) as caught:
        fit(model, splits, **training_arguments(config), callbacks=callbacks)
    rate = config.hyperparameters.learning_rate
    assert caught.value.exit_code == 5
    assert f"learning rate {rate:g}" in caught.value.where and "\n" not in str(caught.value) and caught.value.todo == f"try lr={rate / 10:g}"
    return str(caught.value)


class Steps(Callback):
    "Counts the steps."
    taken = 0

    def on_step_end(self, state):
        self.taken += 1


class At(Callback):
    "Calls a function after a given step or epoch."
    def __init__(self, action, step=None, epoch=None):
        self.action, self.step, self.epoch = action, step, epoch

    def on_step_end(self, state):
        if state.step == self.step:
            self.action(state)

    def on_epoch_end(self, state):
        if state.epoch == self.epoch:
            self.action(state)


# values that are not finite


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("position", [0, 40, 95])
def test_nonfinite_pixel_stops_the_training_at_its_step(value, position):
    config, model, steps = configured("epochs=3"), network(), Steps()
    before = snapshot(model)
    row = epoch_order(96, 32, config.seed, 0)[position]
    line = diverges(model, replace(digits(), train=with_pixel(digits().train, row, value)), config, [steps])
    assert re.search(rf"the (loss|gradient) is not finite at step {position // 32} \(epoch 1,", line)
    assert steps.taken == position // 32
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_divergence_in_a_later_epoch_keeps_the_best_weights():
    model, kept = network(), []
    poison = At(lambda state: (kept.append(snapshot(state.model)), state.model[1].weight.data.fill_(float("nan"))), epoch=2)
    line = diverges(model, digits(), configured("epochs=4"), [poison])
    assert "loss is not finite at step 6 (epoch 3," in line and finite(model)
    assert all(torch.equal(tensor, kept[0][name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("rate", ["1e20", "1e30", "1e38"])
def test_too_high_learning_rate_stops_the_training_after_the_step_that_diverged(rate):
    model, steps = network(), Steps()
    line = diverges(model, digits(), configured(f"lr={rate}", "hyperparameters.optimizer=sgd", "hyperparameters.clip_grad_norm=0"), [steps])
    assert steps.taken <= 2 and f"at step {steps.taken} (epoch 1," in line
    assert finite(model)


@pytest.mark.parametrize("step, name", [(1, "loss"), (2, "loss"), (3, "validation loss")])  # an epoch has three steps
def test_infinite_loss_is_detected_before_the_next_step(step, name):
    model, steps = network(), Steps()
    explosion = At(lambda state: state.model[5].weight.data.mul_(1e38).mul_(1e3), step=step)
    line = diverges(model, digits(), configured("epochs=2"), [explosion, steps])
    assert f"the {name} is not finite at step {step} (epoch 1," in line and steps.taken == step and finite(model)


def test_nonfinite_validation_loss_is_divergence_and_no_best_epoch():
    model = network()
    line = diverges(model, replace(digits(), valid=with_pixel(digits().valid, 5, float("nan"))), configured("epochs=2"))
    assert "the validation loss is not finite at step 3" in line and finite(model)


# stopping


def test_a_callback_ends_the_training_after_its_epoch():
    history = fit(network(), digits(), **training_arguments(configured("epochs=5")), callbacks=[At(lambda state: setattr(state, "stop", True), step=4)])
    assert [result.step for result in history] == [3, 6]


def test_interrupt_leaves_the_best_weights_and_runs_on_fit_end():
    def interrupt(state):
        raise KeyboardInterrupt
    model, kept, ended = network(), [], Steps()
    ended.on_fit_end = lambda state: kept.append(snapshot(state.model))
    best = At(lambda state: kept.append(snapshot(state.model)), epoch=1)
    with pytest.raises(KeyboardInterrupt):
        fit(model, digits(), **training_arguments(configured("epochs=5")), callbacks=[best, At(interrupt, step=5), ended])
    assert len(kept) == 2 and not model.training
    for known in (kept[1], model.state_dict()):
        assert all(torch.equal(tensor, known[name]) for name, tensor in kept[0].items())


# random state


def test_global_random_state_has_no_effect_and_does_not_change():
    weights = []
    for ambient in (1, 2):
        torch.manual_seed(ambient)
        np.random.seed(ambient)
        model, before = network(), (torch.get_rng_state(), np.random.get_state()[1].copy())
        fit(model, digits(), **training_arguments(configured("epochs=2", "augment.rotation=10")))
        assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()
        weights.append(snapshot(model))
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_callbacks_do_not_change_the_weights():
    weights = []
    for callbacks in ([], [Steps(), At(lambda state: torch.rand(3), step=2)]):
        model = network()
        fit(model, digits(), **training_arguments(configured("epochs=2")), callbacks=callbacks)
        weights.append(snapshot(model))
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


# running statistics of batch normalization


def normalized(momentum):
    with seeded_init(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32, momentum=momentum), nn.ReLU(), nn.Linear(32, 10))


@pytest.mark.parametrize("momentum, batch_size, ema", [(0.01, 64, 0), (3e-4, 64, 0), (0.01, 64, 0.9), (0.1, 650, 0)])
def test_a_short_training_is_not_validated_with_initial_statistics(momentum, batch_size, ema):
    splits, model = load_data("digits"), normalized(momentum)
    config = configured("epochs=6", "lr=0.02", f"hyperparameters.ema_decay={ema}")
    config.hyperparameters.batch_size = batch_size
    history = fit(model, splits, **training_arguments(config))
    order = epoch_order(len(splits.train), 64, 1, 0)
    inputs = [splits.preprocess.normalize(splits.train.images[rows]) for rows in np.array_split(order, 20)]
    expected = copy.deepcopy(model)
    torch.optim.swa_utils.update_bn(map(torch.from_numpy, inputs), expected)
    assert history.best.valid_accuracy > 0.85
    (mean, var), (true_mean, true_var) = ((net[2].running_mean, net[2].running_var) for net in (model, expected))
    assert (mean - true_mean).square().lt(true_var / 16).all() and (var / true_var).log().abs().lt(0.5).all()


def test_a_network_that_asks_for_its_layers_versions_keeps_its_best_weights_and_loads_again(tmp_path):
    splits = digits()
    model = build_model(Architecture("mnasnet0_5", channels=1, classes=10, size=8), seed=0)
    fit(model, splits, epochs=1)
    Classifier(model, splits.preprocess, splits.classes).save(tmp_path / "saved")
    loaded = Classifier.load(tmp_path / "saved").model.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())


def test_ordinary_statistics_and_frozen_ones_stay_as_training_left_them(monkeypatch):
    class Frozen(nn.BatchNorm1d):
        def train(self, mode=True): return super().train(False)
    for model in (normalized(0.1), normalized(0.4), normalized(0.0), normalized(None), normalized(0.01)):
        if model[2].momentum == 0.01:
            model[2] = Frozen(32, momentum=0.01)
        plain, seen = copy.deepcopy(model), []
        fit(model, load_data("digits"), **training_arguments(configured("epochs=1")))
        with monkeypatch.context() as patch:
            patch.setattr("image_classifier.training.loop.refresh_norms", lambda *args: seen.append(args))
            fit(plain, load_data("digits"), **training_arguments(configured("epochs=1")))
        assert seen and all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in model.state_dict().items())


# a time budget


class Slow(Callback):
    "Makes the clock pass: each step takes some seconds more, from a given epoch on."
    def __init__(self, monkeypatch, seconds):
        self.now, self.seconds, self.plans = 0.0, seconds, []
        monkeypatch.setattr("image_classifier.training.loop.time.perf_counter", lambda: self.now)

    def on_step_end(self, state):
        self.now += self.seconds(state.epoch)

    def on_epoch_end(self, state):
        self.plans.append(state.schedule.epochs)


def budgeted(monkeypatch, first_guess, seconds, minutes=1.0, epochs="auto", folder=None, every=0, callbacks=(), **more):
    "Train under a time budget with a clock of our own; the first estimate is `first_guess` seconds an epoch of three steps."
    guess = TimeEstimate(3, 1, first_guess / 3, 0.0, 8, 0)
    monkeypatch.setattr("image_classifier.training.loop.time_training", lambda *args, **options: guess)
    slow = Slow(monkeypatch, seconds)
    hyper = Hyperparameters(num_epochs=epochs, batch_size=32, scheduler_type="cosine", min_lr=0.0)
    history = fit(network(), digits(), hyper, device="cpu", max_minutes=minutes, callbacks=[*callbacks, slow], early_stopping_patience=0,
                  checkpoints=Checkpoints(folder, steps=every) if folder else None, **more)
    return history, slow


def test_a_budget_is_used_although_the_first_estimate_was_far_too_slow(monkeypatch):
    history, slow = budgeted(monkeypatch, first_guess=40.0, seconds=lambda epoch: 1.0)  # 3 seconds an epoch, 57 seconds
    assert len(history) == 19 and slow.plans[0] == 19 and slow.now == 57.0
    assert history[-1].lr < 0.05 * history[0].lr


def test_a_budget_is_kept_although_the_first_estimate_was_far_too_fast(monkeypatch):
    history, slow = budgeted(monkeypatch, first_guess=1.0, seconds=lambda epoch: 3.0)
    assert slow.plans[0] == 19 / 3 and slow.now == 57.0 and history[-1].lr < 0.2 * history[0].lr
    assert len(history) == 7 and history[-1].step == 19  # six epochs of three steps, and one step


def test_a_budget_of_a_few_long_epochs_is_used_up(monkeypatch):
    history, slow = budgeted(monkeypatch, first_guess=30.0, seconds=lambda epoch: 10.0)  # 30 seconds an epoch, 57 seconds
    assert [result.step for result in history] == [3, 5] and slow.now == 50.0 and history[-1].lr < 0.2 * history[0].lr
    assert all(0 <= result.train_accuracy <= 1 for result in history)


def test_a_machine_that_becomes_slower_or_faster_changes_the_plan(monkeypatch):
    history, slow = budgeted(monkeypatch, first_guess=3.0, seconds=lambda epoch: 1.0 if epoch < 4 else 3.0)
    assert slow.plans[0] == 19 and 8 <= len(history) <= 9 and 50 < slow.now <= 60
    history, slow = budgeted(monkeypatch, first_guess=9.0, seconds=lambda epoch: 3.0 if epoch < 2 else 0.5)
    assert slow.plans[0] == 19 / 3 and 20 < len(history) and 50 < slow.now <= 60


def test_configured_epochs_still_limit_a_budget(monkeypatch):
    history, slow = budgeted(monkeypatch, first_guess=40.0, seconds=lambda epoch: 1.0, epochs=4)
    assert len(history) == 4 and slow.now == 12.0


def test_a_resumed_training_continues_with_the_plan_it_had(monkeypatch, tmp_path):
    "The plan changes after the first epoch; the training is killed in the second, and the next process has a faster machine."
    def kill(state):
        raise RuntimeError("killed")
    rates = {}
    record = Steps()
    record.on_step_end = lambda state: rates.setdefault(state.step, state.lr)
    with pytest.raises(RuntimeError):
        budgeted(monkeypatch, 40.0, lambda epoch: 3.0, folder=tmp_path, callbacks=[record, At(kill, step=5)])
    saved = Checkpoints(tmp_path).latest()
    assert (saved.step, saved.state["epochs"]) == (3, 19 / 3)
    again = Steps()
    again.on_step_end = lambda state: rates.__setitem__(("again", state.step), state.lr)
    budgeted(monkeypatch, 1.0, lambda epoch: 3.0, folder=tmp_path, callbacks=[again])
    assert [rates["again", step] for step in (4, 5)] == [rates[step] for step in (4, 5)]


@pytest.mark.parametrize("step", [4, 5])
def test_a_training_killed_in_the_last_part_of_an_epoch_ends_as_if_it_had_not_been(monkeypatch, tmp_path, step):
    def kill(state):
        raise RuntimeError("killed")
    whole = budgeted(monkeypatch, 30.0, lambda epoch: 10.0)[0]
    with pytest.raises(RuntimeError):
        budgeted(monkeypatch, 30.0, lambda epoch: 10.0, folder=tmp_path, every=1, callbacks=[At(kill, step=step)])
    resumed = budgeted(monkeypatch, 30.0, lambda epoch: 10.0, folder=tmp_path)[0]
    ended = budgeted(monkeypatch, 30.0, lambda epoch: 10.0, folder=tmp_path)[0]
    for history in (resumed, ended):
        assert [(row.step, row.lr, row.train_loss, row.valid_loss) for row in history] == [
            (row.step, row.lr, row.train_loss, row.valid_loss) for row in whole]


def test_a_training_that_ended_within_an_epoch_goes_on_with_more_epochs(monkeypatch, tmp_path):
    first = budgeted(monkeypatch, 30.0, lambda epoch: 10.0, epochs=4, folder=tmp_path, every=1)[0]
    assert [row.step for row in first] == [3, 5]
    more = budgeted(monkeypatch, 30.0, lambda epoch: 10.0, minutes=0, epochs=5, folder=tmp_path)[0]
    assert [row.step for row in more] == [3, 5, 9, 12, 15]


def test_auto_epochs_need_a_budget():
    with pytest.raises(ConfigError, match="epochs=auto needs a time budget"):
        fit(network(), digits(), epochs="auto")
    with pytest.raises(ConfigError, match="epochs=auto needs a time budget"):
        training_arguments(compose(["epochs=auto"]))


@pytest.mark.parametrize("n, batch_size, parts", [(33, 31, 2), (34, 31, 2), (65, 31, 4), (18, 16, 8)])
def test_no_part_of_the_last_batch_is_a_single_image(n, batch_size, parts):
    splits = load_data("digits")
    splits = replace(splits, train=splits.train.select(range(n)), valid=splits.valid.select(range(20)))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 10))
    config = compose(["device=cpu", f"batch_size={batch_size}", f"hyperparameters.gradient_accumulation={parts}", "epochs=1"])
    assert len(fit(model, splits, **training_arguments(config))) == 1
