"What a user loses if an image unlike the training images is not marked, or its mark lost: a confident class that means nothing."
import json
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from test_effects import digits, PLAIN, ran
from torch import nn

from image_classifier.cli import main
from image_classifier.config import build
from image_classifier.core import ArtifactError, load_tensors, read_json, save_tensors, write_json, write_manifest
from image_classifier.inference import Classifier
from image_classifier.metrics import fit_ood
from image_classifier.models import MODELS, register_model
from image_classifier.runs import train

NOISE = np.random.default_rng(0).integers(0, 256, (100, 1, 8, 8), np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("ood") / "run", num_epochs=8)


def flags(classifier, images):
    return [one.out_of_distribution for one in classifier.predict([image[0] for image in images])]


def changed(run, folder, change):
    "Return a copy of the run's classifier, changed, with a manifest that fits it."
    shutil.copytree(run.path / "classifier", folder / "classifier")
    change(folder / "classifier")
    write_manifest(folder / "classifier")
    return folder / "classifier"


def test_noise_is_marked_and_digits_are_not(run):
    found, about = run.classifier(), run.metrics["ood"]
    assert found.detector.threshold == about["threshold"] == read_json(run.path / "classifier" / "classifier.json")["ood"]["threshold"]
    assert np.mean(flags(found, NOISE)) > 0.7 and about["test"]["low"] <= 0.05
    assert np.mean(flags(found, digits().test.images)) == about["test"]["value"]
    assert "that finds many of them, not all" in (run.path / "classifier" / "README.md").read_text()


def test_the_threshold_lets_19_of_20_images_like_those_of_validation_pass():
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(200):
        features, valid, new = (rng.standard_t(5, (n, 6)) for n in (60, 39, 500))
        kept.append(1 - fit_ood(features, np.arange(60) % 2, valid).is_unlike(new).mean())
    assert np.mean(kept) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("tta", ["flip", "crops"])
def test_the_mark_is_that_of_the_image_itself_with_test_time_augmentation(run, tta):
    plain, augmented = run.classifier(), run.classifier()
    augmented.tta = tta
    images = np.concatenate([digits().test.images, NOISE[:8]])
    assert flags(augmented, images) == flags(plain, images)


def test_threads_that_share_a_classifier_get_the_marks_of_their_own_images(run):
    found = run.classifier()
    parts = [NOISE, np.tile(digits().test.images, (6, 1, 1, 1)), NOISE[::-1], digits().test.images[::-1]]
    alone, together = [flags(found, part) for part in parts], [[] for _ in parts]

    def work(number):
        for _ in range(3):
            together[number].append(flags(found, parts[number]))
    threads = [threading.Thread(target=work, args=[number]) for number in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [[one] * 3 for one in alone]
    assert not any(layer._forward_pre_hooks for layer in found.model.modules())


def test_a_classifier_from_before_there_was_a_score_still_loads(run, tmp_path):
    def older(folder):
        (folder / "ood.safetensors").unlink()
        write_json(folder / "classifier.json", {key: value for key, value in read_json(folder / "classifier.json").items() if key != "ood"})
    found = Classifier.load(changed(run, tmp_path, older))
    assert flags(found, NOISE[:2]) == [None, None] and "out_of_distribution" not in found.predict(NOISE[0, 0]).as_dict()


def stored(folder, **arrays):
    "Replace arrays of a detector."
    path = folder / "ood.safetensors"
    save_tensors(path, load_tensors(path) | arrays)


HOSTILE = {
    "file is gone": (lambda folder: (folder / "ood.safetensors").unlink(), "ood.safetensors missing from the manifest"),
    "other width": (lambda folder: stored(folder, centers=torch.ones(10, 3), whitening=torch.eye(3)), "is of another version, or not for"),
    "a full matrix": (lambda folder: stored(folder, whitening=torch.ones(256, 256)), "is of another version, or not for"),
    "no centers": (lambda folder: stored(folder, centers=torch.ones(0, 3)), "not the arrays of an out-of-distribution detector"),
    "one more array": (lambda folder: stored(folder, more=torch.ones(1)), "not the arrays of an out-of-distribution detector"),
    "no threshold": (lambda folder: write_json(folder / "classifier.json", read_json(folder / "classifier.json") | {"ood": {}}), "ood must hold a threshold"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_manipulated_detector_is_refused_in_one_line(run, tmp_path, capsys, name):
    change, message = HOSTILE[name]
    folder = changed(run, tmp_path, change)
    with pytest.raises(ArtifactError, match=message):
        Classifier.load(folder)
    Image.fromarray(NOISE[0, 0]).save(tmp_path / "noise.png")
    assert main(["predict", str(folder), str(tmp_path / "noise.png")]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_bit_of_the_detector_that_has_changed_is_found(run, tmp_path):
    shutil.copytree(run.path / "classifier", tmp_path / "classifier")
    data = bytearray((tmp_path / "classifier" / "ood.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "classifier" / "ood.safetensors").write_bytes(data)
    with pytest.raises(ArtifactError, match="sha256 mismatch in ood.safetensors"):
        Classifier.load(tmp_path / "classifier")


def test_infinite_features_are_marked():
    rng = np.random.default_rng(0)
    detector = fit_ood(rng.normal(size=(40, 3)), np.zeros(40, int), rng.normal(size=(40, 3)))
    assert detector.is_unlike(np.array([[np.nan, 0, 0], [np.inf, 0, 0], [0, 0, 0]])).tolist() == [True, True, False]


def test_too_few_validation_images_cost_the_score_and_not_the_run(tmp_path, caplog):
    few = replace(digits(), valid=digits().valid.select(range(10)))
    with caplog.at_level("INFO", "image_classifier"):
        run = ran(tmp_path / "run", few)
    assert run.finished and run.classifier().detector is None and run.metrics["ood"]["threshold"] is None
    assert "there are 64 and 10" in run.metrics["ood"]["reason"]
    assert [record.message for record in caplog.records if "out-of-distribution" in record.message] == [
        f"no out-of-distribution score: {run.metrics['ood']['reason']}"]


def test_a_network_without_a_linear_head_costs_the_score_and_not_the_run(tmp_path):
    @register_model("no_head")
    def no_head(architecture):
        return nn.Sequential(nn.Conv2d(architecture.channels, architecture.classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    try:
        run = train(build({**PLAIN, "model.name": "no_head"}), tmp_path / "run", splits=digits())
        assert run.finished and run.classifier().detector is None
        assert run.metrics["ood"]["reason"] == "the network's logits do not come from a linear layer"
    finally:
        del MODELS["no_head"]


def test_predict_marks_images_in_text_json_and_table(run, tmp_path, capsys):
    Image.fromarray(NOISE[0, 0]).save(tmp_path / "noise.png")
    plain = digits().test.images[flags(run.classifier(), digits().test.images).index(False)]
    Image.fromarray(plain[0]).save(tmp_path / "digit.png")
    words = ["predict", str(run.path), str(tmp_path / "noise.png"), str(tmp_path / "digit.png")]
    assert main(words) == 0
    assert [line.endswith("(unlike the training images: the class may mean nothing)") for line in capsys.readouterr().out.splitlines()] == [True, False]
    assert main([*words, "--json", "--csv", str(tmp_path / "table.csv")]) == 0
    assert [one["out_of_distribution"] for one in json.loads(capsys.readouterr().out)["predictions"]] == [True, False]
    assert [line.split(",")[-2] for line in (tmp_path / "table.csv").read_text().splitlines()] == ["out_of_distribution", "true", "false"]
