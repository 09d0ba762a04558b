"Models by name: every family of torchvision builds, weights depend on the seed alone, errors name a fix."
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

from image_classifier.core import ConfigError
from image_classifier.models import Architecture, build_model, check_model, find_builder, model_names, MODELS, register_model, resnet
from image_classifier.models.adapters import find_head, torchvision_model, torchvision_names

# the smallest model of each family of torchvision, with an input size that it accepts
FAMILIES = {
    "alexnet": 64, "convnext_tiny": 32, "densenet121": 32, "efficientnet_b0": 32, "efficientnet_v2_s": 32, "googlenet": 32,
    "inception_v3": 80, "maxvit_t": 224, "mnasnet0_5": 32, "mobilenet_v2": 32, "mobilenet_v3_small": 32, "regnet_x_400mf": 32,
    "regnet_y_400mf": 32, "resnet18": 32, "resnext50_32x4d": 32, "shufflenet_v2_x0_5": 32, "squeezenet1_1": 32, "swin_t": 32,
    "swin_v2_t": 32, "vgg11": 32, "vit_b_32": 32, "wide_resnet50_2": 32,
}


def family(name):
    "Return the family of a model: resnet for resnet18, vit for vit_b_32."
    return name.split("_")[0].rstrip("0123456789")


def test_every_family_of_torchvision_has_a_representative():
    known = {family(name) for name in torchvision_names()}
    tested = {family(name) for name in FAMILIES}
    if new := known - tested:
        warnings.warn(f"torchvision has families that are not tested here: {sorted(new)}", UserWarning)
    assert tested <= known


@pytest.mark.parametrize("name", FAMILIES)
def test_family_accepts_grayscale_and_alpha_and_returns_k_logits(name):
    channels = (1, 4)[list(FAMILIES).index(name) % 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = build_model(Architecture(name, channels=channels, classes=5, size=FAMILIES[name], dropout=0.25))
    with torch.no_grad():
        assert model.eval()(torch.rand(2, channels, FAMILIES[name], FAMILIES[name])).shape == (2, 5)
    leaves = [layer for layer in model.modules() if not any(layer.children())]
    before = leaves[leaves.index(model.get_submodule(find_head(model))) - 1]
    assert isinstance(before, nn.Dropout) and before.p == 0.25


@pytest.mark.parametrize("name, size, valid", [("alexnet", 28, 64), ("inception_v3", 32, 80), ("maxvit_t", 32, 224), ("vit_b_32", 28, 32),
                                               ("vit_b_32", 500, 512), ("simple_cnn", 7, 8), ("speednet", 1, 8)])
def test_wrong_input_size_is_answered_with_a_valid_one(name, size, valid):
    with pytest.raises(ConfigError) as raised:
        build_model(Architecture(name, size=size))
    assert "\n" not in str(raised.value)
    assert f"{name} cannot take inputs of 3x{size}x{size}" in str(raised.value)
    assert raised.value.todo == f"use data.size={valid}"


def test_grayscale_model_gives_the_logits_of_the_rgb_model_on_gray_images():
    gray, color = (build_model(Architecture("resnet18", channels=channels), seed=3).eval() for channels in (1, 3))
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(gray(images), color(images.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["simple_cnn", "resnet", "mobilenet_v3_small"])
def test_weights_depend_on_the_seed_alone_and_other_random_numbers_do_not_change(name):
    def weights(seed):
        return nn.utils.parameters_to_vector(build_model(Architecture(name, size=32), seed).parameters())
    torch.manual_seed(7)
    first, after = weights(1), torch.rand(3)
    torch.manual_seed(8)
    torch.rand(5)
    again = weights(1)
    torch.manual_seed(7)
    assert torch.equal(first, again)
    assert torch.equal(torch.rand(3), after)
    assert not torch.equal(first, weights(2))


def test_building_a_model_does_not_change_its_batch_norm_statistics():
    model = build_model(Architecture())
    assert model[1].num_batches_tracked == 0 and not model[1].running_mean.any()
    assert model.training


def test_own_model_that_needs_values_is_tried_on_black_images(monkeypatch):
    class Thresholds(nn.Module):
        def __init__(self, architecture):
            super().__init__()
            self.head = nn.Linear(3 * 8 ** 2, architecture.classes)

        def forward(self, x):
            return self.head(x.flatten(1)) * (1 if x.max().item() > 0 else 0)

    monkeypatch.setitem(MODELS, "thresholds", Thresholds)
    assert build_model(Architecture("thresholds", size=8)).architecture.name == "thresholds"
    with pytest.raises(ConfigError, match="thresholds cannot take inputs of 3x9x9: RuntimeError"):
        build_model(Architecture("thresholds", size=9))


def test_simple_cnn_is_built_without_torchvision():
    code = ("import sys; from image_classifier.models import Architecture, build_model, check_model; build_model(Architecture());"
            "check_model('resnet'); assert 'torchvision' not in sys.modules; check_model('resnet18'); assert 'torchvision' in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)


PACKAGE = """
from torch import nn

def tiny_net(architecture):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(architecture.classes))

def raises(architecture):
    raise ValueError("no weights today\\nsecond line")

oops = "not a builder"
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    "Install a package with entry points, as pip would."
    (tmp_path / "tiny_networks.py").write_text(PACKAGE)
    info = tmp_path / "tiny_networks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-networks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[image_classifier.models]\ntiny_net = tiny_networks:tiny_net\nraises = tiny_networks:raises\noops = tiny_networks:oops\n"
        "gone = tiny_networks:gone\nresnet = tiny_networks:tiny_net\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("tiny_networks", None)


def test_model_of_an_installed_package_is_found_by_name(installed):
    assert "tiny_net" in model_names()
    check_model("tiny_net")
    assert "tiny_networks" not in sys.modules  # the name comes from the metadata; the package is imported when the model is built
    model = build_model(Architecture("tiny_net", channels=1, classes=3, size=8), seed=5)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    again = build_model(Architecture("tiny_net", channels=1, classes=3, size=8), seed=5)
    assert torch.equal(model[1].weight, again[1].weight)


def test_installed_package_does_not_replace_a_built_in_model(installed):
    assert find_builder("resnet") is resnet


@pytest.mark.parametrize("name, message", [("raises", "ValueError: no weights today"), ("gone", "cannot load the network gone: AttributeError"),
                                           ("oops", "is not a function (tiny_networks:oops)")])
def test_broken_model_of_an_installed_package_is_one_line(installed, name, message):
    with pytest.raises(ConfigError) as raised:
        build_model(Architecture(name))
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_own_model_registered_by_a_notebook_is_built(monkeypatch):
    monkeypatch.setitem(MODELS, "nearest_mean", None)  # removed again after the test
    del MODELS["nearest_mean"]

    @register_model("nearest_mean")
    def nearest_mean(architecture):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(architecture.channels, architecture.classes))

    assert "nearest_mean" in model_names()
    assert build_model(Architecture("nearest_mean", classes=4))(torch.zeros(2, 3, 32, 32)).shape == (2, 4)


def test_own_model_cannot_take_the_name_of_a_built_in_one_whichever_comes_first():
    with pytest.raises(ConfigError, match="a network named resnet exists already .*choose another name"):
        @register_model("resnet")
        def mine(architecture):
            return resnet(architecture)

    code = ("from image_classifier.core import ConfigError; from image_classifier.models import Architecture, register_model\n"
            "register_model('resnet')(lambda architecture: None)\n"
            "try: from image_classifier.models import build_model\n"
            "except ConfigError as problem: print(problem)")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "a network named resnet exists already (__main__). choose another name\n"


def test_built_in_models_are_found_by_name_without_an_import():
    code = "from image_classifier.models import model_names; print(model_names()[:3])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "['simple_cnn', 'resnet', 'speednet']\n"


def test_unknown_name_is_answered_with_the_nearest_ones():
    with pytest.raises(ConfigError, match=r"unknown model resnet999 .*did you mean .*resnet50") as raised:
        check_model("resnet999")
    assert raised.value.exit_code == 2


def test_missing_timm_is_answered_with_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="pip install 'literate-image-classifier\\[timm\\]'"):
        check_model("resnet18", library="timm")


@pytest.mark.parametrize("name, size", [("resnet10t", 32), ("vit_tiny_patch16_224", 32), ("mobilenetv3_small_050", 32)])
def test_timm_model_has_the_requested_channels_classes_and_dropout(name, size):
    pytest.importorskip("timm", reason="timm is an extra")
    model = build_model(Architecture(name, channels=1, classes=5, size=size, dropout=0.25, library="timm"))
    with torch.no_grad():
        assert model.eval()(torch.rand(2, 1, size, size)).shape == (2, 5)


def test_unknown_timm_name_is_answered_with_the_nearest_ones():
    pytest.importorskip("timm", reason="timm is an extra")
    with pytest.raises(ConfigError, match="unknown model vit_tiny_patch16_22 .*did you mean"):
        check_model("vit_tiny_patch16_22", library="timm")


@pytest.mark.parametrize("name", ["vgg11", "vgg16_bn", "alexnet", "squeezenet1_1", "efficientnet_b0", "mnasnet0_5", "resnet18", "vit_b_32"])
def test_dropout_zero_leaves_no_dropout_and_other_rates_apply_everywhere(name):
    for rate in (0.0, 0.3):
        with torch.device("meta"):
            model = torchvision_model(Architecture(name, size=224, dropout=rate))
        assert {layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)} - {0.0} == {rate} - {0.0}
