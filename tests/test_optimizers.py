"Optimizers and schedules: every configured name exists, learning rates stay in range, results agree with torch."
import importlib
import itertools
from dataclasses import fields
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from image_classifier.config import Hyperparameters
from image_classifier.core import ConfigError
from image_classifier.models import Architecture
from image_classifier.models.adapters import torchvision_model
from image_classifier.training import lr_at_step, make_optimizer, muon_groups, OPTIMIZERS, parameter_groups, SCHEDULES


def choices(name):
    return next(field.metadata["limits"]["choices"] for field in fields(Hyperparameters) if field.name == name)


def test_every_name_in_the_configuration_is_registered():
    assert set(choices("optimizer")) == set(OPTIMIZERS)
    assert set(choices("scheduler_type")) == set(SCHEDULES)


@pytest.mark.parametrize("name", SCHEDULES)
def test_learning_rate_stays_between_zero_and_the_configured_one(name):
    history = [SimpleNamespace(valid_loss=1.0)] * 12
    for epochs, steps, warmup, min_lr in itertools.product((1, 3, 12), (1, 7), (0.0, 0.5, 2.0, 99.0), (0.0, 1e-6, 1.0)):
        h = Hyperparameters(learning_rate=0.1, num_epochs=epochs, scheduler_type=name, warmup_epochs=warmup, min_lr=min_lr, step_size=2)
        rates = [lr_at_step(h, step, steps, history[:step // steps]) for step in range(epochs * steps)]
        assert all(0 < rate <= 0.1 + 1e-12 for rate in rates)
        if warmup == 0:
            assert min(rates) >= min(min_lr, 0.1 / 25)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_plateau_agrees_with_torch(patience):
    losses = torch.rand(60, generator=torch.Generator().manual_seed(patience)).tolist()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.7, patience=patience - 1, threshold=0, min_lr=1e-3, eps=0)
    h = Hyperparameters(learning_rate=1.0, scheduler_type="plateau", step_size=patience, gamma=0.7, min_lr=1e-3, num_epochs=60)
    history = []
    for epoch, loss in enumerate(losses):
        assert lr_at_step(h, epoch * 5, 5, history) == pytest.approx(optimizer.param_groups[0]["lr"])
        scheduler.step(loss)
        history.append(SimpleNamespace(valid_loss=loss))


def test_nonfinite_validation_loss_counts_as_no_improvement():
    h = Hyperparameters(learning_rate=1.0, scheduler_type="plateau", step_size=2, gamma=0.5, min_lr=1e-3)
    history = [SimpleNamespace(valid_loss=loss) for loss in (1.0, float("nan"), float("inf"), 0.5, 0.4)]
    assert [lr_at_step(h, 0, 1, history[:count]) for count in range(6)] == [1, 1, 1, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("name", ("adam", "adamw", "sgd"))
def test_optimizer_agrees_with_torch_if_all_weights_decay(name):
    h = Hyperparameters(optimizer=name, learning_rate=0.05, weight_decay=0.1, momentum=0.8)
    plain = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
    mine, theirs = (nn.Linear(6, 3, bias=False) for _ in range(2))
    mine.load_state_dict(theirs.state_dict())
    optimizers = (make_optimizer(mine, h), plain(theirs.parameters(), lr=0.05, weight_decay=0.1, **({"momentum": 0.8} if name == "sgd" else {})))
    inputs = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    for _ in range(10):
        for model, optimizer in zip((mine, theirs), optimizers):
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(mine.weight, theirs.weight)


@pytest.mark.parametrize("name", ("adam", "adamw", "muon", "sgd"))
def test_the_class_of_an_optimizer_is_found_by_its_name_as_pickle_does_it(name):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    kind = type(make_optimizer(network, Hyperparameters(optimizer=name)))
    assert getattr(importlib.import_module(kind.__module__), kind.__qualname__) is kind


# which weights are treated as matrices


def torchvision(name, **changes):
    with torch.device("meta"):
        return torchvision_model(Architecture(name, **{"size": 224, "classes": 5, **changes}))


@pytest.mark.parametrize("name, kept", [("convnext_tiny", "layer_scale"), ("vit_b_32", "class_token"), ("vit_b_32", "encoder.pos_embedding"),
                                        ("swin_t", "relative_position_bias_table"), ("swin_v2_t", "logit_scale"), ("maxvit_t", "relative_position_bias_table")])
def test_scales_tokens_and_positions_do_not_decay(name, kept):
    model = torchvision(name)
    free = {weight for group in parameter_groups(model, 0.1) if not group["weight_decay"] for weight in group["params"]}
    assert (found := [weight for path, weight in model.named_parameters() if path.endswith(kept)]) and free.issuperset(found)
    matrices = [layer.weight for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    attention = [layer.in_proj_weight for layer in model.modules() if isinstance(layer, nn.MultiheadAttention)]
    assert not free.intersection(matrices + attention)


def test_what_a_timm_network_exempts_does_not_decay():
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    with torch.device("meta"):
        model = timm.create_model("vit_tiny_patch16_224")
    decay, free = parameter_groups(model, 0.1)
    assert {id(model.cls_token), id(model.pos_embed)} <= {id(weight) for weight in free["params"]}
    assert len(decay["params"]) == sum(isinstance(layer, (nn.Linear, nn.Conv2d)) for layer in model.modules())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121", "shufflenet_v2_x0_5"])
def test_muon_leaves_depthwise_gating_and_grouped_filters_alone(name):
    model = torchvision(name)
    filters = set(muon_groups(model)[0]["params"])
    gates = {id(layer) for block in model.modules() if type(block).__name__ == "SqueezeExcitation" for layer in block.modules()}
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            assert (layer.weight in filters) == (layer.groups == 1 and id(layer) not in gates)


@pytest.mark.parametrize("name", ["vgg11", "alexnet", "squeezenet1_1"])
def test_muon_refuses_networks_without_normalization(name):
    with pytest.raises(ConfigError, match="in front of a normalization, and this network has none to train"):
        muon_groups(torchvision(name))
