"Explanations: the part that decides is found, in networks of every kind, and looking changes nothing."
import threading

import numpy as np
import pytest
import torch
from image_classifier.core import ArtifactError, ConfigError, InvalidValueError
from image_classifier.data import Preprocess
from image_classifier.inference import Classifier, explain_pixels
from image_classifier.metrics import grad_cam, occlusion, overlay
from image_classifier.models import build_model
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn

SIZE, PATCH, COLORS = 32, 8, np.array([(230, 40, 40), (40, 200, 60), (40, 80, 230)], np.uint8)
PREPROCESS = Preprocess(SIZE, 3, "crop", (0.5,) * 3, (0.25,) * 3)


def planted(count, seed, classes):
    "Pieces of two photos, with a patch of the class's color at a random place; class 0 has none. Return images, classes, upper left corners."
    rng = np.random.default_rng(seed)
    photos = [np.asarray(Image.fromarray(photo).resize((160, 107))).transpose(2, 0, 1) for photo in load_sample_images().images]
    targets, corners = rng.choice(classes, count), rng.integers(0, SIZE - PATCH + 1, (count, 2))
    images = np.empty((count, 3, SIZE, SIZE), np.uint8)
    for image, target, (top, left) in zip(images, targets, corners, strict=True):
        y, x = rng.integers(0, 107 - SIZE), rng.integers(0, 160 - SIZE)
        image[:] = photos[rng.integers(2)][:, y:y + SIZE, x:x + SIZE]
        if target:
            image[:, top:top + PATCH, left:left + PATCH] = COLORS[target - 1][:, None, None]
    return images, targets, corners


@pytest.fixture(scope="module")
def trained():
    "A small network that tells the color of the patch, frozen."
    images, targets, _ = planted(640, seed=0, classes=[0, 1, 2, 3])
    inputs, targets = torch.from_numpy(PREPROCESS.normalize(images)), torch.from_numpy(targets)
    model = build_model("simple_cnn", classes=4, channels=3, size=SIZE, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(8):
            for rows in torch.randperm(len(images)).split(32):
                loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return Classifier(model.requires_grad_(False), PREPROCESS, ["none", "red", "green", "blue"])


def peaks_inside(explanations, corners):
    "Count the explanations whose peak is in the patch."
    peaks = np.array([one.peak or (-1, -1) for one in explanations])[:, ::-1] * SIZE
    return int(((corners <= peaks) & (peaks < corners + PATCH)).all(1).sum())


@pytest.mark.parametrize("method", ["grad_cam", "occlusion"])
def test_the_peak_is_in_the_patch_that_decides(trained, method):
    "Both methods, with frozen weights, on images that the network has not seen."
    images, targets, corners = planted(100, seed=1, classes=[1, 2, 3])
    found = explain_pixels(trained, images, method)
    assert np.mean([one.target == trained.classes[target] for one, target in zip(found, targets, strict=True)]) >= 0.97
    assert peaks_inside(found, corners) >= 95


def test_the_peak_moves_with_the_class_that_is_explained(trained):
    "An image with two patches: each class has its own evidence."
    images, _, _ = planted(1, seed=2, classes=[0])
    images[0, :, 2:10, 3:11], images[0, :, 20:28, 18:26] = COLORS[0][:, None, None], COLORS[2][:, None, None]
    for target, corner in (("red", (2, 3)), ("blue", (20, 18))):
        assert peaks_inside(explain_pixels(trained, images, "grad_cam", target), np.array([corner])) == 1


@pytest.mark.parametrize(("name", "size"), [("simple_cnn", 8), ("simple_cnn", 28), ("resnet", 16), ("speednet", 32), ("efficientnet_lite0", 32), ("resnet18", 64),
                                            ("mobilenet_v3_small", 64), ("densenet121", 32), ("convnext_tiny", 32), ("swin_t", 64), ("squeezenet1_1", 32)])
def test_every_network_with_feature_maps_is_explained_and_left_as_it_was(name, size):
    model = build_model(name, classes=3, channels=3, size=size, seed=0).train().requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    inputs = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    maps = [grad_cam(model, inputs, [target] * 2) for target in range(3)]
    assert all(one.shape == (2, size, size) and one.dtype == np.float32 and 0 <= one.min() and one.max() <= 1 for one in maps)
    assert max(one.max() for one in maps) == 1 and not np.array_equal(maps[0], maps[1])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(layer.training and not layer._forward_hooks for layer in model.modules())
    assert all(one.grad is None and not one.requires_grad for one in model.parameters()) and torch.is_grad_enabled()


def test_an_image_alone_is_explained_as_in_a_batch(trained):
    images, targets, _ = planted(5, seed=3, classes=[1, 2, 3])
    inputs = torch.from_numpy(PREPROCESS.normalize(images))
    together = grad_cam(trained.model, inputs, targets)
    for row in range(5):
        np.testing.assert_allclose(grad_cam(trained.model, inputs[row:row + 1], targets[row:row + 1])[0], together[row], atol=1e-4)


def test_networks_without_feature_maps_get_one_line_that_names_the_other_method():
    for model in (nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), build_model("vit_b_16", classes=2, channels=3, size=32, seed=0)):
        with pytest.raises(ConfigError, match="no feature maps lead to the logits of this network .*explain it by occlusion"):
            grad_cam(model, torch.zeros(1, 3, *[8 if isinstance(model, nn.Sequential) else 32] * 2))


def test_damaged_weights_are_named(trained):
    model = build_model("simple_cnn", classes=2, channels=3, size=8, seed=0)
    nn.init.constant_(next(model.parameters()), torch.nan)
    with pytest.raises(ArtifactError, match="non-finite logits"):
        grad_cam(model, torch.zeros(1, 3, 8, 8))


def test_threads_may_predict_while_another_one_explains(trained):
    images, _, _ = planted(8, seed=4, classes=[1, 2, 3])
    expected, stop, wrong = trained.probabilities(images), threading.Event(), []
    def _predict():
        while not stop.is_set():
            if not np.array_equal(trained.probabilities(images), expected):
                wrong.append(1)
    threads = [threading.Thread(target=_predict) for _ in range(2)]
    maps = []
    for thread in threads:
        thread.start()
    try:
        maps = [explain_pixels(trained, images)[0].evidence for _ in range(10)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong and all(np.array_equal(one, maps[0]) for one in maps)


def test_occlusion_asks_a_fixed_number_of_times_and_never_passes_on_its_own_images():
    asked = []
    def predict(images):
        asked.append(len(images))
        images[:] = 0
        return np.full((len(images), 2), 0.5)
    images = np.full((3, 3, 40, 30), 7, np.uint8)
    assert occlusion(predict, images).shape == (3, 40, 30) and (images == 7).all()
    assert sum(asked) == 3 * 99
    with pytest.raises(InvalidValueError, match="2 targets for 3 images"):
        occlusion(predict, images, [0, 1])


def test_overlays_are_told_apart_without_red_and_green():
    "Of two maps the one with more evidence is lighter, whatever the image."
    gray = np.full((3, 1, 5), 128, np.uint8)
    shades = overlay(gray, np.linspace(0, 1, 5)[None]).astype(int)
    assert (np.diff(np.array([299, 587, 114]) @ shades[:, 0]) > 0).all()


def test_explain_takes_what_predict_takes(trained, tmp_path):
    images, _, _ = planted(20, seed=5, classes=[1, 2, 3])
    Image.fromarray(images[0].transpose(1, 2, 0)).save(tmp_path / "a.png")
    found = trained.explain([tmp_path / "a.png", *images[1:]])
    assert [one.prediction.predicted_class for one in found] == [one.predicted_class for one in trained.predict([tmp_path / "a.png", *images[1:]])]
    assert str(trained.explain(tmp_path / "a.png").prediction) == str(found[0].prediction)
    with pytest.raises(ConfigError, match="unknown class gren .*did you mean green"):
        trained.explain(images[0], target="gren")
