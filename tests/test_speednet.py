"""speednet and its optimizer beyond the notebook: every small size, half precision, a resumed step, a non-finite loss."""
import pytest
import torch
from torch.nn import functional as F

from image_classifier.models import Architecture, build_model, SpeedNet
from image_classifier.training import load_optimizer, Muon, muon_groups, optimizer_tensors


def network(**changes) -> SpeedNet:
    "Return a speednet whose first layer was computed from random images."
    model = build_model(Architecture("speednet", **changes), seed=3)
    generator = torch.Generator().manual_seed(0)
    model.init_from_data(torch.randn(50, model.architecture.channels, model.architecture.size, model.architecture.size, generator=generator))
    return model


def step(model, optimizer, seed=0, **changes):
    "Take one step on random images and return the loss."
    architecture = model.architecture
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(8, architecture.channels, architecture.size, architecture.size, generator=generator)
    targets = torch.randint(architecture.classes, (8,), generator=generator)
    optimizer.zero_grad()
    loss = F.cross_entropy(model(inputs), targets)
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("size", range(16, 65, 3))
def test_speednet_trains_at_every_small_size(size):
    model = network(channels=1, classes=3, size=size)
    optimizer = Muon(muon_groups(model), lr=0.01)
    assert all(step(model, optimizer, seed) < 20 for seed in range(2))


@pytest.mark.parametrize("channels, classes", [(1, 2), (3, 100), (4, 10)])
def test_speednet_accepts_any_channels_and_classes(channels, classes):
    model = network(channels=channels, classes=classes, size=28)
    assert model.eval()(torch.rand(2, channels, 28, 28)).shape == (2, classes)


def test_first_layer_is_saved_and_loaded_with_the_weights():
    first, second = network(), build_model(Architecture("speednet"), seed=9)
    second.load_state_dict(first.state_dict())
    inputs = torch.rand(2, 3, 32, 32)
    assert torch.equal(first.eval()(inputs), second.eval()(inputs))


def test_init_from_constant_images_gives_a_model_with_finite_logits():
    model = build_model(Architecture("speednet"))
    model.init_from_data(torch.zeros(4, 3, 32, 32))
    assert model.eval()(torch.rand(2, 3, 32, 32)).isfinite().all()


def test_bfloat16_changes_the_logits_little():
    model = network().eval()
    inputs = torch.rand(4, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(inputs)
    assert torch.allclose(half.float(), model(inputs), atol=0.02 * model(inputs).abs().max().item())


def test_muon_continues_exactly_from_its_saved_state():
    whole = network(size=16)
    optimizer = Muon(muon_groups(whole), lr=0.01)
    step(whole, optimizer, 0)
    resumed = network(size=16)
    resumed.load_state_dict(whole.state_dict())
    again = Muon(muon_groups(resumed), lr=0.01)
    load_optimizer(again, optimizer_tensors(optimizer))
    assert step(whole, optimizer, 1) == step(resumed, again, 1)
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), resumed.parameters()))


def test_muon_gives_the_same_weights_twice():
    def trained():
        model = network(size=16)
        optimizer = Muon(muon_groups(model), lr=0.01)
        for seed in range(3):
            step(model, optimizer, seed)
        return model
    assert all(torch.equal(one, other) for one, other in zip(trained().parameters(), trained().parameters()))


def test_muon_skips_a_step_with_found_inf_and_keeps_weights_and_momentum():
    model = network(size=16)
    optimizer = Muon(muon_groups(model), lr=0.01)
    step(model, optimizer)
    before = [p.clone() for p in model.parameters()], {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()}
    for weight in model.parameters():
        weight.grad = None if weight.grad is None else torch.full_like(weight, float("inf"))
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(before[0], model.parameters()))
    assert all(torch.equal(before[1][name], tensor) for name, tensor in optimizer_tensors(optimizer).items())
