"`augment=`: a function of the user's own in training is reproducible, survives a resume, and is never silently another one."
import functools
import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from image_classifier.config import AugmentConfig, compose
from image_classifier.core import ConfigError, read_json
from image_classifier.data import load_data
from image_classifier.models import build_model
from image_classifier.runs import train
from image_classifier.training import Callback, Checkpoints, estimate, fit, source_hash


@cache
def digits():
    splits = load_data("digits")
    return replace(splits, train=splits.train.select(range(96)), valid=splits.valid.select(range(32)))


def trained(augment, **options):
    "Return the weights after two epochs of three steps."
    model = build_model("simple_cnn", channels=1, classes=10, size=8)
    fit(model, digits(), **{"epochs": 2, "batch_size": 32, **options}, augment=augment)
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


def with_torch(batch):
    return torch.where(torch.rand(len(batch), 1, 1, 1) < 0.5, batch.flip(-1), batch)


def with_numpy(batch):
    return batch.roll(int(np.random.randint(3)), -1)


def with_python(batch):
    return batch.roll(random.randrange(3), -1)


FUNCTIONS = [with_torch, with_numpy, with_python, functools.partial(torch.roll, shifts=1, dims=-1), v2.RandomHorizontalFlip(0.5),
             v2.Compose([v2.RandomRotation(20), v2.ColorJitter(0.3), v2.RandomResizedCrop(8, antialias=True)]),
             lambda batch: torch.stack([v2.functional.rotate(image, 9) for image in batch])]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: getattr(function, "__name__", type(function).__name__))
def test_training_with_a_function_changes_and_repeats_whatever_generator_it_uses(function, recwarn):
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first = trained(function)
    np.random.rand(), random.random()
    assert torch.equal(trained(function), first) and not torch.equal(trained(None), first)
    assert not [one for one in recwarn if "resumed" in str(one.message)]
    assert torch.equal(torch.get_rng_state(), states[0])


def test_the_function_sees_whole_gray_levels_before_the_configured_augmentation():
    seen = []

    def look(batch):
        seen.append((batch.dtype, tuple(batch.shape), batch.is_contiguous()))
        return batch
    both = trained([look, AugmentConfig(rotation=10.0)])
    assert set(seen) == {(torch.uint8, (32, 1, 8, 8), True), (torch.uint8, (4, 1, 8, 8), True)}  # batches, and the check before them
    assert torch.equal(both, trained(AugmentConfig(rotation=10.0)))
    assert torch.equal(trained(look), trained(None))


def test_each_step_and_epoch_draws_anew_and_parts_of_a_batch_do_not():
    drawn = []

    def note(batch):
        drawn.append(torch.rand(1).item())
        return batch
    trained(note)
    steps = drawn[4:]  # after the check
    assert len(set(steps)) == len(steps) == 6
    drawn.clear()
    trained(note, seed=1)
    assert not set(drawn[4:]) & set(steps)


class StopAfter(Callback):
    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, state):
        if state.step == self.steps:
            raise KeyboardInterrupt


@pytest.mark.parametrize("steps", [1, 4])
def test_resumed_training_is_identical_with_a_function(tmp_path, steps):
    def run(folder, callbacks=()):
        return trained([with_torch, AugmentConfig(translate=0.1)], callbacks=callbacks, checkpoints=Checkpoints(folder, steps=1))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", [StopAfter(steps + 1)])
    assert torch.equal(run(tmp_path / "stopped"), run(tmp_path / "whole"))


def shifted(by):
    return lambda batch: batch.roll(by, -1)


def test_training_does_not_resume_with_another_function_or_none(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(shifted(1), callbacks=[StopAfter(2)], checkpoints=Checkpoints(tmp_path, steps=1))
    for other in (shifted(2), with_torch, None):
        with pytest.raises(ConfigError, match="augment function .*shifted.* then"):
            trained(other, checkpoints=Checkpoints(tmp_path))
    assert torch.equal(trained(shifted(1), checkpoints=Checkpoints(tmp_path)), trained(shifted(1)))


def test_finished_run_is_not_returned_for_another_function(tmp_path):
    config = compose(["epochs=1", "batch_size=64"])
    made = train(config, tmp_path / "run", augment=with_torch)
    assert "with_torch" in read_json(made.path / "environment.json")["augment_function"]
    assert train(config, tmp_path / "run", augment=with_torch).reused
    with pytest.raises(ConfigError, match="augmentation with_torch .*, now it is with_numpy"):
        train(config, tmp_path / "run", augment=with_numpy)
    with pytest.warns(UserWarning, match="with_torch .* is not given now; it is not trained again"):
        assert train(config, tmp_path / "run").reused
    plain = train(config, tmp_path / "plain")
    assert plain.metrics["test"] != made.metrics["test"]
    with pytest.raises(ConfigError, match="of its configuration only"):
        train(config, tmp_path / "plain", augment=with_torch)


def test_function_that_cannot_be_repeated_is_reported():
    own = np.random.default_rng()
    with pytest.warns(UserWarning, match="cannot be resumed or repeated exactly"):
        trained(lambda batch: batch + torch.from_numpy(own.integers(0, 2, tuple(batch.shape), np.uint8)))


WRONG = [lambda batch: batch.float(), lambda batch: batch[:, :, :4], lambda batch: None, lambda batch: batch.numpy(),
         v2.ToDtype(torch.float32, scale=True), lambda batch: batch[:1]]


@pytest.mark.parametrize("function", WRONG)
def test_function_that_returns_another_kind_of_batch_is_refused_before_training(function):
    with pytest.raises(ConfigError, match="the augmentation returned .* return a uint8 batch of the same shape"):
        trained(function, callbacks=[StopAfter(1)])
    with pytest.raises(ConfigError, match="the augmentation returned"):
        estimate(build_model("simple_cnn", channels=1, classes=10, size=8), digits(), augment=function)


def test_what_a_function_raises_is_passed_on():
    def fails(batch):
        raise LookupError("mine")
    with pytest.raises(LookupError, match="mine"):
        trained(fails)


class Shift:
    def __init__(self, by):
        self.by = by

    def __call__(self, batch):
        return batch.roll(self.by, -1)


def test_hash_covers_attributes_constants_and_helpers_but_not_the_object(monkeypatch):
    def module(helper, constant):
        names = {"__name__": "mine", "torch": torch}
        exec(compile(f"LEVEL = {constant}\ndef helper(batch): return {helper}\ndef flip(batch): return helper(batch) + LEVEL", "mine.py", "exec"), names)
        return source_hash(names["flip"])
    assert source_hash(Shift(1)) == source_hash(Shift(1)) != source_hash(Shift(2))
    assert source_hash(v2.RandomErasing(0.2)) == source_hash(v2.RandomErasing(0.2)) != source_hash(v2.RandomErasing(0.3))
    assert source_hash(Shift(1).__call__) != source_hash(Shift(2).__call__)
    assert source_hash(Shift(torch.zeros(2))) != source_hash(Shift(torch.ones(2)))
    assert module("batch", 1) == module("batch", 1)
    assert len({module("batch", 1), module("batch", 2), module("batch.flip(-1)", 1)}) == 3
