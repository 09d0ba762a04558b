"What a newcomer passes to the functions of the package works where its meaning is clear, and ends in one line elsewhere."
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from torch import nn

from image_classifier.cli import main
from image_classifier.config import DataConfig, ModelConfig, compose
from image_classifier.core import ImageClassifierError
from image_classifier.data import load_data, load_evaluation_set
from image_classifier.inference import Classifier
from image_classifier.metrics import align_classes, evaluate, predict_logits
from image_classifier.models import Architecture, build_model
from image_classifier.quality import check_splits
from image_classifier.runs import Run, train
from image_classifier.training import estimate, fit


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A finished run."
    return train(compose(["epochs=1"]), tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture(scope="module")
def splits():
    return load_data("digits")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    "The folder `digits` with two classes of photos, in the working folder."
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / "digits" / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.random.default_rng([ord(name[0]), i]).integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "digits" / name / f"{i}.png")
    return Path("digits")


def test_a_path_is_a_folder_even_if_a_data_set_has_its_name(photos):
    assert load_data(photos).classes == ("cat", "dog")
    assert load_evaluation_set(photos).classes == ("cat", "dog")
    with pytest.raises(ImageClassifierError, match="no folder mnist"):
        load_data(Path("mnist"))


def test_data_are_loaded_from_the_configuration_of_a_run_with_what_it_allows(photos):
    (photos / "owl").mkdir()
    with pytest.raises(ImageClassifierError):
        load_data(DataConfig("folder", str(photos)))
    with pytest.warns(UserWarning, match="'owl' has no images"):
        assert "owl" in load_data(compose(["data=./digits", "allow=[empty_class]"])).classes


def test_a_network_is_built_from_its_name_and_the_number_of_classes(splits):
    assert build_model("resnet18", classes=7).architecture == Architecture("resnet18", classes=7)
    given = dict(channels=1, classes=3, size=8, dropout=0.5)
    assert build_model("simple_cnn", 4, **given).architecture == Architecture("simple_cnn", **given)


def test_a_classifier_is_evaluated_as_its_run_was(run, splits):
    measured = evaluate(run.classifier(), splits.test).metrics
    assert measured["accuracy"] == run.metrics["test"]["accuracy"] and measured["ece"] == run.metrics["test"]["ece"]


def test_a_classifier_is_evaluated_on_data_that_lists_classes_in_another_order(run, splits):
    other = splits.test.classes[::-1]
    turned = replace(splits.test, classes=other, targets=len(other) - 1 - splits.test.targets)
    assert evaluate(run.classifier(), turned).metrics["accuracy"] == run.metrics["test"]["accuracy"]


def test_a_run_stands_for_its_folder(run):
    assert Classifier.load(run).classes == run.classifier().classes and Run(run).metrics == run.metrics


@pytest.mark.parametrize("shape", [(2, 8, 8), (3, 8, 8), (4, 8, 8), (5, 8, 8), (3, 1, 8, 8)])
def test_several_gray_images_in_one_array_are_not_taken_for_one_image(run, shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for given in (images, [images]):
        with pytest.raises(ImageClassifierError, match="several images. pass a list"):
            run.classifier().predict(given)
    assert len(run.classifier().predict(list(images))) == shape[0]


def test_an_array_with_the_channels_of_the_network_is_one_image(run, splits):
    color = Classifier(build_model("simple_cnn", classes=2, size=8), replace(splits.preprocess, channels=3, mean=(0.5,) * 3,
                                                                             std=(0.2,) * 3), ["cat", "dog"])
    image = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    assert color.predict(image) == color.predict(image.transpose(1, 2, 0))
    gray = run.classifier()
    assert gray.predict(image[:1]) == gray.predict(image[0]) == gray.predict(image[0][..., None])
    with pytest.raises(ImageClassifierError, match="several images"):
        color.predict(np.zeros((4, 8, 8), np.uint8))


WRONG = [  # a call, and what its line names
    (lambda have: load_data(None), "load_data"),
    (lambda have: load_data({"name": "digits"}), "load_data"),
    (lambda have: load_data(have.run), "load_data"),
    (lambda have: build_model("resnet18"), "classes=10"),
    (lambda have: build_model("resnet18", 10), "classes=10"),
    (lambda have: build_model(None), "resnet18"),
    (lambda have: build_model(ModelConfig()), "Architecture"),
    (lambda have: build_model(nn.Linear(2, 2)), "Architecture"),
    (lambda have: build_model("resnet18", clases=3), "did you mean classes"),
    (lambda have: evaluate(have.classifier), "splits.test"),
    (lambda have: evaluate(have.classifier, have.splits), "splits.test"),
    (lambda have: evaluate(have.run), "splits.test"),
    (lambda have: evaluate(have.classifier.model, have.splits.test), "splits.preprocess"),
    (lambda have: evaluate("runs/a", have.splits.test), "Classifier"),
    (lambda have: predict_logits(have.classifier, have.splits.test, have.splits.preprocess), "network"),
    (lambda have: align_classes(have.splits, "ab"), "splits.test"),
    (lambda have: predict_logits(have.classifier.model, have.splits, have.splits.preprocess), "splits.test"),
    (lambda have: Classifier.load(None), "folder"),
    (lambda have: Classifier.load(have.classifier), "folder"),
    (lambda have: Run(5), "folder"),
    (lambda have: fit(have.classifier.model, have.splits.train), "load_data"),
    (lambda have: fit("resnet18", have.splits), "build_model"),
    (lambda have: fit(have.classifier.model, "digits"), "load_data"),
    (lambda have: fit(have.classifier.model, have.splits, {"num_epochs": 1}), "epochs="),
    (lambda have: estimate(have.classifier.model, have.splits.train), "load_data"),
    (lambda have: check_splits(have.splits.train), "load_data"),
    (lambda have: train("digits"), "compose"),
    (lambda have: train(compose(), splits=have.splits.train), "load_data"),
]


@pytest.mark.parametrize("call, named", WRONG)
def test_an_argument_of_another_kind_is_named_in_one_line(call, named, run, splits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageClassifierError) as caught:
        call(SimpleNamespace(run=run, splits=splits, classifier=run.classifier()))
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_a_number_given_as_text_trains_as_the_number(splits):
    network = build_model("simple_cnn", channels=1, classes=10, size=8)
    few = replace(splits, train=splits.train.select(range(64)), valid=splits.valid.select(range(32)))
    assert len(fit(network, few, epochs="2")) == 2


def test_a_figure_is_not_written_among_the_images(tmp_path, capsys):
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    assert main(["find-lr", f"data={tmp_path / 'pets'}", "--out", str(tmp_path / "pets" / "cat" / "lr.png")]) == 2
    assert "would lie among the images" in capsys.readouterr().err and not list((tmp_path / "pets" / "cat").iterdir())


def test_a_path_without_a_key_is_taken_for_data(tmp_path, capsys):
    assert main(["train", str(tmp_path)]) == 2
    assert f"write data={tmp_path}" in capsys.readouterr().err
