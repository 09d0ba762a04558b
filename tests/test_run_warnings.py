"""Warnings about results that are not what they seem: each one is raised where it should be, and none in healthy runs."""
import json
import re

import numpy as np
import pytest
from folders import save
from PIL import Image

from image_classifier.cli import main
from image_classifier.config import compose
from image_classifier.data import Dataset, load_data
from image_classifier.inference import Classifier
from image_classifier.metrics import compute_metrics
from image_classifier.quality import mirrored_classes
from image_classifier.runs import result_warnings, RUN_CHECKS, train
from image_classifier.training import EpochResult, History


def part(confusion, seed=0):
    "Return the metrics of predictions with this confusion matrix."
    confusion = np.array(confusion)
    targets, predicted = (np.repeat(rows, confusion.ravel()) for rows in np.indices(confusion.shape).reshape(2, -1))
    return compute_metrics(3.0 * np.eye(len(confusion))[predicted], targets, [f"class {i}" for i in range(len(confusion))], seed)


def epochs(losses, train_accuracy=0.9, valid_accuracy=None, lr=None):
    accuracies = valid_accuracy or [1 - loss / 2 for loss in losses]
    return History(EpochResult(i, i, rate, loss, train_accuracy, loss, accuracy, 1.0)
                   for i, (loss, accuracy, rate) in enumerate(zip(losses, accuracies, lr or [0.1] * len(losses), strict=True), 1))


GOOD, FALLING = part([[90, 10], [10, 90]]), epochs([0.8, 0.4, 0.3, 0.29, 0.31])


def codes(history=FALLING, valid=GOOD, test=None, seen=0, n=200, **more):
    metrics = {"valid": valid, "test": test or valid, "data": {"train": 1000, "valid": n, "test": n, "test_seen": seen}, **more}
    return [warning["code"] for warning in result_warnings(metrics, history)]


PROVOKED = {
    "no_better_than_guessing": [
        dict(valid=part([[20, 30], [28, 22]]), history=epochs([0.9, 0.7], 0.5)),
        dict(valid=part([[190, 0], [10, 0]]), history=epochs([0.9, 0.7], 0.95)),  # all of the most frequent class
        dict(valid=part(np.full((10, 10), 5)), history=epochs([2.3, 2.3], 0.1)),
        dict(valid=part([[2, 1], [2, 1]]), n=6, history=epochs([0.9, 0.7], 0.5))],
    "far_below_training": [dict(history=epochs([0.5, 0.4, 0.5], 0.99), valid=part([[60, 40], [40, 60]]))],
    "class_never_predicted": [
        dict(valid=part([[95, 5, 0], [5, 95, 0], [6, 4, 0]])), dict(valid=part([[0, 9], [0, 191]]), history=epochs([0.4, 0.3, 0.3]))],
    "class_not_tested": [dict(test=part([[90, 10, 0], [10, 90, 0], [0, 0, 0]]))],
    "calibration_incomplete": [dict(valid=part([[100, 0], [0, 0]]), calibration={"temperature": None}),
                               dict(valid=part([[90, 10, 0], [10, 90, 0], [0, 0, 0]]), calibration={"temperature": {"value": 1.2}})],
    "no_threshold": [dict(abstention={"wanted": 0.99, "threshold": None})],
    "threshold_incomplete": [dict(valid=part([[90, 10, 0], [10, 90, 0], [0, 0, 0]]), abstention={"wanted": 0.9, "threshold": 0.8})],
    "ended_early": [dict(history=epochs([1.5, 1.0, 0.6])), dict(history=epochs([0.6, 0.3], valid_accuracy=[0.7, 0.9])),
                    dict(history=epochs([1.5, 1.0, 0.6], lr=[0.2, 0.1, 0.1]))],
    "first_epoch_best": [dict(history=epochs([0.4, 0.9, 1.4])), dict(history=epochs([0.4, 9.0, 2.0, 0.7]))],
    "test_images_seen": [dict(seen=20), dict(seen=3)],
    "test_unlike_validation": [dict(test=part([[60, 40], [45, 55]]))],
}


@pytest.mark.parametrize("code, case", [(code, case) for code, cases in PROVOKED.items() for case in cases])
def test_each_warning_is_raised_where_it_should_be(code, case):
    assert code in codes(**case)


def test_every_warning_is_provoked():
    assert set(PROVOKED) == set(RUN_CHECKS)


@pytest.mark.parametrize("case", [
    dict(calibration={"temperature": {"value": 1.2}}, abstention={"wanted": 0.9, "threshold": 0.7}), dict(history=epochs([0.4])), dict(history=epochs([0.5, 0.3, 0.29])), dict(history=epochs([0.03, 0.02], valid_accuracy=[0.995, 0.996])),
    dict(history=epochs([0.024, 0.014], valid_accuracy=[0.979, 0.993]), n=145),  # two images more
    dict(history=epochs([1.5, 1.0, 0.6], lr=[0.2, 0.1, 0.01])),  # the schedule is at its end
    dict(history=epochs([0.3, 0.32, 0.4])), dict(seen=2), dict(seen=None), dict(valid=part([[4, 0], [0, 4]]), n=8),
    dict(valid=part([[950, 10], [10, 30]]), n=1000, history=epochs([0.2, 0.1, 0.1], 0.99)),  # rare class: accuracy hardly above its share
    dict(valid=part([[30, 20], [15, 35]]), history=epochs([0.7, 0.6, 0.6], 0.75)), dict(test=part([[80, 20], [15, 85]])),
    dict(valid=part([[99, 1, 0], [1, 97, 0], [1, 1, 0]]), n=200),  # two images of a class are too few to say that it is never predicted
])
def test_a_healthy_result_raises_none(case):
    assert codes(**case) == []


def test_a_healthy_run_raises_none(tmp_path):
    # 20 runs of five kinds (Adam, SGD, AdamW, Muon; constant, step, cosine, onecycle and linear schedules): 19 raised none, and the check that one raised (ended_early) was tightened after that
    config = compose(["hyperparameters=fast", "epochs=8", "batch_size=32", "threads=1"])
    assert train(config, tmp_path / "run").metrics["warnings"] == []


def noise(root, classes=("cat", "dog", "owl"), n=40):
    "Write images of noise, which nobody can tell apart."
    for k, name in enumerate(classes):
        for i in range(n):
            save(root / name / f"{i}.png", Image.fromarray(np.random.default_rng([k, i]).integers(0, 256, (8, 8, 3), np.uint8)))
    return root


def test_a_run_at_chance_says_so_in_shell_metrics_report_and_model_card(tmp_path, capsys):
    root = noise(tmp_path / "noise")
    words = [f"data={root}", "hyperparameters=fast", "epochs=2", "batch_size=16", "threads=1", "check_near_duplicates=false",
             "--out", str(tmp_path / "run")]
    assert main(["train", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    stored = json.loads((tmp_path / "run" / "metrics.json").read_text())["warnings"]
    assert "no_better_than_guessing" in [warning["code"] for warning in stored]
    assert lines == [*(f"warning: {warning['message']}" for warning in stored), *lines[-3:]] and lines[-2].startswith("test accuracy")
    card = (tmp_path / "run" / "classifier" / "README.md").read_text()
    assert "## Warnings" in card and "no better than guessing" in card
    assert Classifier.load(tmp_path / "run").metrics["warnings"] == stored


# ---------------------------------------------------------------- flips that change the class

def arrows(root, n=40):
    "Write left and right arrows at random places."
    for k, name in enumerate(("left", "right")):
        for i in range(n):
            rng = np.random.default_rng([k, i])
            image = rng.integers(0, 40, (24, 24, 3)).astype(np.uint8)
            y, x = rng.integers(5, 18), rng.integers(6, 10)
            for j in range(5):
                image[y - j:y + j + 1, x + (8 - j if k else j)] = 220
            save(root / name / f"{i}.png", Image.fromarray(image))
    return root


def test_flips_that_turn_one_class_into_another_are_reported_before_training_and_stored(tmp_path, capsys):
    root = arrows(tmp_path / "arrows")
    words = [f"data={root}", "hyperparameters=fast", "epochs=1", "data.size=16", "batch_size=16", "threads=1", "check_near_duplicates=false"]
    assert main(["train", *words, "--out", str(tmp_path / "flipped")]) == 0
    err = capsys.readouterr().err
    assert re.search("warning: .*mirrored, left looks like right; right looks like left.*try augment=none(.|\n)*\nepoch 1", err)
    assert "augmentation: flips of half of the images; rotations up to 10 degrees" in err
    stored = json.loads((tmp_path / "flipped" / "metrics.json").read_text())["warnings"]
    assert stored[0]["code"] == "flipped_into_another_class"
    assert main(["train", *words, "augment=none", "--out", str(tmp_path / "plain")]) == 0
    out, err = capsys.readouterr()
    assert "mirrored" not in out + err and "augmentation: none\n" in err


@pytest.mark.parametrize("pairs", [1, 3])
def test_only_the_classes_that_change_are_named(pairs):
    "Pairs of classes with a bright corner on the left or on the right, and symmetric classes."
    rng, k = np.random.default_rng(0), 2 * pairs + 2
    targets = np.arange(60 * k) % k
    images = rng.integers(0, 60, (len(targets), 1, 16, 16)).astype(np.uint8)
    for image, target in zip(images[:, 0], targets, strict=True):
        row = 4 * (target // 2)
        if target >= 2 * pairs:
            image[row % 12:row % 12 + 4, 4 * (target % 2):16 - 4 * (target % 2)] = 230  # wide or narrow, in the middle
        else:
            image[row:row + 4, :6] = 230
            image[row:row + 4] = image[row:row + 4, ::-1] if target % 2 else image[row:row + 4]
    names = tuple(f"c{i}" for i in range(k))
    found = mirrored_classes(Dataset(images, targets, names, tuple(map(str, range(len(targets))))))
    assert found == [(f"c{i}", f"c{i ^ 1}") for i in range(2 * pairs)]


@pytest.mark.parametrize("kept", [range(10), (3, 8), (8, 9)])
def test_digits_that_a_network_tells_apart_when_mirrored_may_be_flipped(kept):
    "A mirrored 3 resembles an 8 more than a 3, and other mirrored 3s most of all."
    train = load_data("digits").train
    assert mirrored_classes(train.select(np.flatnonzero(np.isin(train.targets, kept)))) == []


@pytest.mark.parametrize("share", [2, 4])
def test_a_class_that_changes_into_a_rarer_one_is_named(share):
    rng, n = np.random.default_rng(0), 240
    targets = (np.arange(n) % share == 0).astype(np.int64)
    images = rng.integers(0, 60, (n, 1, 16, 16)).astype(np.uint8)
    for image, target in zip(images[:, 0], targets, strict=True):
        image[4:8, 10 if target else 0:16 if target else 6] = 230
    names = ("left", "right")
    found = mirrored_classes(Dataset(images, targets, names, tuple(map(str, range(n)))))
    assert found == [("left", "right"), ("right", "left")]


def test_photos_may_be_flipped(data_dir, tmp_path):
    import tarfile
    with tarfile.open(data_dir / "hymenoptera.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    [root] = [path for path in tmp_path.iterdir() if path.is_dir()]
    splits = load_data(compose([f"data={root}", "data.size=32", f"data.cache_dir={tmp_path / 'cache'}"]).data)
    assert mirrored_classes(splits.train) == []
