"Registered functions of your own: bad names are refused, every optimizer of torch trains and resumes, and failures name the function."
import math
import sys

import numpy as np
import pytest
import torch
from small_training import network, splits  # noqa: F401
from torch import nn

from image_classifier.config import compose, Hyperparameters
from image_classifier.core import ConfigError, DivergedError, Stop
from image_classifier.data import Augment, AUGMENTATIONS, batches, load_data, READERS, register_augmentation, register_reader, Source
from image_classifier.inference import Classifier
from image_classifier.models import Architecture, build_model, MODELS, register_model
from image_classifier.runs import train
from image_classifier.training import Callback, Checkpoints, fit, OPTIMIZERS, register_optimizer, setup_training, train_step

TABLES = {register_model: MODELS, register_reader: READERS, register_optimizer: OPTIMIZERS, register_augmentation: AUGMENTATIONS}


@pytest.fixture(autouse=True)
def tables():
    "Leave the tables of registered functions as they were."
    before = [dict(table) for table in TABLES.values()]
    yield
    for table, entries in zip(TABLES.values(), before):
        table.clear()
        table.update(entries)


# names


@pytest.mark.parametrize("register", TABLES)
@pytest.mark.parametrize("name", ["", None, 3, [1], "a b", "../x", "x\n", "\ud800", "x" * 500, "1x", "é"])
def test_a_name_that_cannot_be_configured_is_refused(register, name):
    before = dict(TABLES[register])
    with pytest.raises(ConfigError, match="is registered under a name of letters"):
        register(name)(lambda *arguments: None)
    assert TABLES[register] == before


@pytest.mark.parametrize("register, name", [(register_model, "resnet"), (register_reader, "digits"), (register_optimizer, "adam"),
                                            (register_augmentation, "affine")])
def test_a_built_in_function_is_not_replaced(register, name):
    before = dict(TABLES[register])
    with pytest.raises(ConfigError, match=f"named {name} exists already"):
        register(name)(lambda *arguments: None)
    assert TABLES[register] == before


@pytest.mark.parametrize("register", TABLES)
def test_a_decorator_without_parentheses_or_above_no_function_is_refused(register):
    with pytest.raises(ConfigError, match=f"write @{register.__name__}"):
        register(lambda *arguments: None)
    with pytest.raises(ConfigError, match="3 is registered as an? .*a function is needed"):
        register("three")(3)
    assert "three" not in TABLES[register]


def test_an_augmentation_samples_with_a_function():
    with pytest.raises(ConfigError, match="sample of the augmentation mine must be of type Callable, got int"):
        register_augmentation("mine", sample=3)


# optimizers

OF_TORCH = ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "Rprop", "ASGD", "Adafactor"]


def own_optimizer(name):
    "Register an optimizer of torch without `fused`, and return hyperparameters that choose it."
    register_optimizer("own")(lambda model, h: getattr(torch.optim, name)(model.parameters(), lr=h.learning_rate))
    return Hyperparameters(num_epochs=2, optimizer="own")


@pytest.mark.parametrize("name", OF_TORCH)
def test_a_step_that_is_not_finite_changes_no_weight_with_any_optimizer(splits, name):
    state = setup_training(network(), splits, own_optimizer(name))
    batch = next(batches(splits.train, splits.preprocess, 64))
    start = [weight.detach().clone() for weight in state.model.parameters()]
    train_step(state, batch)
    before = [weight.detach().clone() for weight in state.model.parameters()]
    assert not any(torch.equal(weight, old) for weight, old in zip(before[-2:], start[-2:]))  # a finite step does change them
    state.model[0].weight.register_hook(lambda gradient: gradient * math.nan)
    for _ in range(2):
        with pytest.raises(DivergedError, match="gradient is not finite at step 1"):
            train_step(state, batch)
    assert all(torch.equal(weight, old) for weight, old in zip(state.model.parameters(), before))


@pytest.mark.parametrize("name", ["Adam", "NAdam", "ASGD", "Adafactor"])
def test_a_training_with_an_optimizer_of_torch_resumes_exactly(splits, name, tmp_path):
    hyper, stop, whole, parts = own_optimizer(name), Stop(), network(), network()
    fit(whole, splits, hyper)

    class AskAt(Callback):
        def on_step_end(self, state):
            if state.step == 7:
                stop.requested = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        fit(parts, splits, hyper, checkpoints=Checkpoints(tmp_path), callbacks=[AskAt()], stop=stop)
    history = fit(parts, splits, hyper, checkpoints=Checkpoints(tmp_path))
    assert len(history) == 2
    assert all(torch.equal(one, two) for one, two in zip(whole.state_dict().values(), parts.state_dict().values()))


class Notes(torch.optim.SGD):
    "Keeps a text beside a weight."
    def step(self, closure=None):
        super().step()
        self.state[self.param_groups[0]["params"][0]]["note"] = "hello"


@pytest.mark.parametrize("build, message", [
    (lambda model, h: None, "the optimizer own is NoneType .*return a torch.optim.Optimizer"),
    (lambda model, h: 3, "the optimizer own is int"), (lambda model, h: 1 / 0, "own cannot be built: ZeroDivisionError"),
    (lambda model: torch.optim.SGD(model.parameters()), "own cannot be built: TypeError"),
    (torch.optim.SGD, "own cannot be built: TypeError"),
    (lambda model, h: torch.optim.SGD(network().parameters()), "has weights of another network"),
    (lambda model, h: torch.optim.LBFGS(model.parameters()), "the optimizer LBFGS failed: TypeError"),
    (lambda model, h: torch.optim.SparseAdam(list(model.parameters())), "the optimizer SparseAdam failed: RuntimeError"),
    (lambda model, h: Notes(model.parameters()), "the optimizer's 0.note cannot be saved .Notes.")])
def test_a_wrong_optimizer_is_one_line(splits, build, message, tmp_path):
    register_optimizer("own")(build)
    with pytest.raises(ConfigError, match=message):
        fit(network(), splits, Hyperparameters(num_epochs=1, optimizer="own"), checkpoints=Checkpoints(tmp_path))
    assert not list(tmp_path.iterdir())


# networks


def shared(architecture):
    "Return a network that uses a batch normalization at two places, and one layer under two names."
    layer, norm = nn.Linear(64, 64), nn.BatchNorm1d(64)
    return nn.Sequential(nn.Flatten(), layer, norm, layer, norm, nn.Linear(64, architecture.classes))


def tied(architecture):
    "Return a network with a weight in two layers."
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, architecture.classes))
    model[2].weight = model[1].weight
    return model


@pytest.mark.parametrize("build", [shared, tied])
def test_a_layer_that_is_used_twice_trains_and_loads(build, tmp_path):
    register_model("own")(build)
    assert {tensor.device.type for tensor in build_model(Architecture("own", 1, 10, 8)).state_dict().values()} == {"cpu"}
    run = train(compose(["data=digits", "model.name=own", "epochs=1", "augment=none", "device=cpu"]), tmp_path / "run")
    images = np.zeros((3, 1, 8, 8), np.uint8)
    assert Classifier.load(run.path).probabilities(images).shape == (3, 10)


def lazy(architecture):
    "Return a network whose layer learns its size from the first images."
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(architecture.classes))


def test_a_network_with_a_lazy_layer_trains_and_loads(tmp_path):
    register_model("own")(lazy)
    run = train(compose(["data=digits", "model.name=own", "epochs=1", "augment=none", "device=cpu"]), tmp_path / "run")
    loaded = Classifier.load(run.path).model.state_dict()
    assert loaded["1.weight"].shape == (10, 64) and loaded["1.weight"].abs().max() > 0


class Own(nn.Module):
    "A linear network, to be spoiled."
    def __init__(self, buffer=None):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        if buffer is not None:
            self.register_buffer("own", buffer)

    def forward(self, inputs):
        return self.layer(inputs.flatten(1))


class ExtraState(Own):
    def get_extra_state(self):
        return {"x": 1}

    def set_extra_state(self, state):
        pass


class NoState(Own):
    def state_dict(self, *arguments, **options):
        return {}


class ReadOnly(Own):
    architecture = property(lambda self: 1)


class InPlace(Own):
    def forward(self, inputs):
        found = super().forward(inputs)
        inputs.zero_()
        return found


class SmallBatches(Own):
    def forward(self, inputs):
        if len(inputs) > 2:
            raise RuntimeError("three images are too many")
        return super().forward(inputs)


@pytest.mark.parametrize("build, message", [
    (lambda: Own(torch.ones(2, dtype=torch.complex64)), "own is complex, which cannot be stored .own."),
    (lambda: Own(torch.eye(2).to_sparse()), "own is sparse, which cannot be stored"),
    (ExtraState, "_extra_state is dict, which cannot be stored"), (NoState, "the network's state_dict has no tensor layer.weight"),
    (ReadOnly, "the network has an attribute architecture of its own"),
    (InPlace, "no gradient of the network can be computed: RuntimeError: .*inplace operation.* .InPlace.. change no tensor in place"),
    (lambda: sys.exit(7), "SystemExit: 7"),
    (SmallBatches, "the network cannot take a batch of 64 images: RuntimeError: three images are too many .SmallBatches.")])
def test_a_network_that_could_not_be_loaded_again_is_refused_before_the_first_step(build, message, tmp_path):
    register_model("own")(lambda architecture: build())
    with pytest.raises(ConfigError, match=message):
        train(compose(["data=digits", "model.name=own", "epochs=1", "augment=none", "device=cpu"]), tmp_path / "run")
    assert not (tmp_path / "run" / "classifier").exists()


def test_a_network_that_cannot_be_stored_still_trains_in_memory(splits, tmp_path):
    model = Own(torch.ones(2, dtype=torch.complex64))
    assert len(fit(model, splits, epochs=1)) == 1
    with pytest.raises(ConfigError, match="own is complex, which cannot be stored .Own."):
        fit(Own(torch.ones(2, dtype=torch.complex64)), splits, epochs=1, checkpoints=Checkpoints(tmp_path))


def test_a_buffer_of_eight_bits_trains_and_loads(tmp_path):
    register_model("own")(lambda architecture: Own(torch.ones(2).to(torch.float8_e5m2)))
    run = train(compose(["data=digits", "model.name=own", "epochs=1", "augment=none", "device=cpu"]), tmp_path / "run")
    assert Classifier.load(run.path).model.own.dtype == torch.float8_e5m2


def test_an_augmentation_that_fails_is_named():
    register_augmentation("own")(lambda pixels, draws, strength: 1 / 0)
    augment = Augment(1, 0, extra=(("own", 1.0),))
    with pytest.raises(ConfigError, match="the augmentation own failed: ZeroDivisionError"):
        augment(torch.zeros(2, 1, 8, 8), torch.arange(2))


@pytest.mark.parametrize("function", [lambda pixels, draws, strength: pixels * math.nan, lambda pixels, draws, strength: pixels / 0])
def test_an_augmentation_that_returns_values_that_are_not_finite_is_named(function):
    register_augmentation("own")(function)
    with pytest.raises(ConfigError, match="it returned values that are not finite .augmentation own."):
        Augment(1, 0, extra=(("own", 1.0),))(torch.ones(2, 1, 8, 8), torch.arange(2))


# readers


def twenty(**changes):
    "Return a source of 20 images."
    images = np.random.default_rng(0).integers(0, 255, (20, 1, 8, 8), dtype=np.uint8)
    values = dict(classes=["a", "b"], ids=[str(row) for row in range(20)], targets=np.arange(20) % 2, parts=["train"] * 20, images=images)
    return Source(**{**values, **changes})


@pytest.mark.parametrize("changes, message", [
    (dict(classes=[0, 1]), "classes must be a list of texts"), (dict(classes=["a", 1]), "classes must be"), (dict(classes="ab"), "classes must"),
    (dict(classes=None), "classes must be"), (dict(ids=list(range(20))), "ids must be a list of texts"), (dict(ids=None), "ids must be"),
    (dict(ids=np.array([str(row) for row in range(20)])), "ids must be"), (dict(parts=np.array(["train"] * 20)), "parts must be a list of texts"),
    (dict(parts="train"), "parts must be"), (dict(groups=np.array(["g"] * 20)), "groups must be a list of texts or None"),
    (dict(groups=[None, 1] * 10), "groups must be"), (dict(targets=[0, 1] * 10), "targets must be a numpy array"),
    (dict(targets=np.arange(20) % 2 + 0.0), "targets must be .N,. integers"), (dict(targets=np.arange(20) % 2 == 0), "targets must be .N,. integers"),
    (dict(targets=np.zeros((20, 1), int)), "targets must be .N,. integers"), (dict(targets=None), "targets must be a numpy array"),
    (dict(images=np.zeros((20, 1, 0, 8), np.uint8)), "images must have a height and width > 0, got .20, 1, 0, 8."),
    (dict(images=np.zeros((20, 8, 8, 3), np.uint8)), ".N,C,H,W. with 1 to 4 channels, got .20, 8, 8, 3.; these have the channels last, images.transp"),
    (dict(images=np.zeros((20, 5, 8, 8), np.uint8)), ".N,C,H,W. with 1 to 4 channels, got .20, 5, 8, 8. "),
    (dict(images=[[1]] * 20), "images must be a numpy array or None"), (dict(images=torch.zeros(20, 1, 8, 8)), "images must be a numpy"),
    (dict(images=None, files=["1.png"] * 20), "files must be a list of File or None"), (dict(images=None, files=[None] * 20), "files must be")])
def test_a_field_of_another_type_is_named_before_anything_is_trained(changes, message):
    register_reader("own")(lambda config: twenty(**changes))
    with pytest.raises(ConfigError, match=f"the reader own returned a wrong Source: .*{message}"):
        load_data("own")


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64])
def test_targets_of_any_integer_type_are_those_of_int64(kind):
    register_reader("own")(lambda config: twenty())
    expected = load_data("own")
    register_reader("own")(lambda config: twenty(targets=(np.arange(20) % 2).astype(kind)))
    splits = load_data("own")
    assert splits.train.targets.dtype == np.int64 and splits.fingerprint == expected.fingerprint


@pytest.mark.parametrize("reader, message", [
    (lambda config: 1 / 0, "the reader own failed: ZeroDivisionError"), (lambda: twenty(), "the reader own failed: TypeError"),
    (lambda config, path: twenty(), "the reader own failed: TypeError"), (lambda config: open("/no/such/file"), "failed: FileNotFoundError"),
    (lambda config: sys.exit(7), "the reader own failed: SystemExit: 7 .test_own_code.. correct its code")])
def test_a_reader_that_fails_is_named(reader, message):
    register_reader("own")(reader)
    with pytest.raises(ConfigError, match=message):
        load_data("own")


def test_a_reader_may_take_allow_by_keyword_only():
    given = []
    register_reader("own")(lambda config, *, allow: given.append(tuple(allow)) or twenty())
    load_data("own", allow=["leaks"])
    assert given == [("leaks",)]
