"What a user loses if confidence, slices and thresholds mislead: a prediction that calibration changed, a run lost to one class."
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from test_effects import digits, mislabeled, ran

from image_classifier.core import InvalidValueError
from image_classifier.metrics import calibration_error, cross_entropy_per_image, fit_temperature, probabilities, scale_logits, slice_names


def simulated(n=3000, k=10, factor=1.0, seed=0):
    "Return logits whose probabilities are right before they are multiplied by `factor`, and targets."
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, k))
    return (factor * logits).astype(np.float32), (probabilities(logits).cumsum(1) > rng.random((n, 1))).argmax(1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("evaluation") / "run", num_epochs=6)


def test_calibration_changes_no_prediction_of_a_run(run):
    test, classifier = run.evaluation("test"), run.classifier()
    assert classifier.temperature == test.temperature == run.metrics["calibration"]["temperature"]["value"] != 1
    assert (test.predicted == test.logits.argmax(1)).all()
    named = [classifier.predict(image).predicted_class for image in digits().test.images]
    assert named == [test.classes[index] for index in test.logits.argmax(1)]
    raw, fitted = (cross_entropy_per_image(scale_logits(run.evaluation("valid").logits, t), digits().valid.targets).mean()
                   for t in (1.0, test.temperature))
    assert fitted < raw and run.metrics["valid"]["loss"]["value"] == pytest.approx(fitted)


def test_a_run_whose_validation_images_are_of_one_class_is_kept_and_says_so(tmp_path):
    run = ran(tmp_path / "run", mislabeled())
    assert run.finished and run.metrics["calibration"]["temperature"] is None and run.classifier().temperature == 1
    assert "no temperature was fitted: that takes validation images of two or more classes" in [one["message"] for one in run.metrics["warnings"]]


def test_a_class_that_validation_lacks_is_named_and_the_temperature_fitted(tmp_path):
    few = replace(digits(), valid=digits().valid.select(np.flatnonzero(digits().valid.targets != 3)))
    run = ran(tmp_path / "run", few)
    assert run.metrics["calibration"]["temperature"]["value"] > 0
    assert any("without images of 3; 5:" in one["message"] for one in run.metrics["warnings"] if one["code"] == "calibration_incomplete")


def test_a_class_that_validation_lacks_is_named_for_the_threshold(tmp_path):
    few = replace(digits(), valid=digits().valid.select(np.flatnonzero(digits().valid.targets != 3)))
    warned = {one["code"]: one["message"] for one in ran(tmp_path / "run", few, target_accuracy=0.2).metrics["warnings"]}
    assert "no_threshold" not in warned and "target_accuracy=0.2 was chosen without images of 3; 5: the accuracy above it may be lower" in warned["threshold_incomplete"]


@pytest.mark.parametrize("factor", [1e6, 3.0, 0.4, 1e-2])
def test_the_scale_of_the_logits_does_not_matter_to_the_calibration(factor):
    logits, targets = simulated(factor=factor)
    fitted = fit_temperature(logits, targets)
    assert fitted.low < factor < fitted.high
    scaled = scale_logits(logits, fitted.value)
    assert calibration_error(probabilities(scaled), targets).low == 0 and (scaled.argmax(1) == logits.argmax(1)).all()


def test_a_validation_without_mistakes_does_not_make_a_classifier_certain():
    "The cross-entropy alone is lowest at a confidence of 1, and the first mistake then costs without bound."
    targets = np.arange(30) % 3
    logits = np.float32(np.eye(3)[targets] + np.random.default_rng(0).normal(0, 0.1, (30, 3)))
    confidence = probabilities(scale_logits(logits, fit_temperature(logits, targets).value)).max(1)
    assert 0.9 < confidence.mean() < 0.99


@pytest.mark.parametrize("bad, message", [(np.nan, "non-finite logits at row 2"), (np.inf, "non-finite logits at row 2")])
def test_logits_that_are_no_numbers_are_refused_in_one_line(bad, message):
    logits, targets = simulated(5)
    logits[2, 1] = bad
    with pytest.raises(InvalidValueError, match=message):
        fit_temperature(logits, targets)


# ---------------------------------------------------------------- slices

@pytest.mark.parametrize("values, expected", [
    ([str(20260101 + i % 30) for i in range(300)], {"20260101 to 20260107": 70, "20260108 to 20260115": 80, "20260116 to 20260122": 70, "20260123 to 20260130": 80}),
    ([f"1234567890123{i:02}" for i in range(16)], {f"1234567890123{i:02} to 1234567890123{i + 3:02}": 4 for i in (0, 4, 8, 12)}),
    ([f"0.12345678{i:02}" for i in range(16)], {f"0.12345678{i:02} to 0.12345678{i + 3:02}": 4 for i in (0, 4, 8, 12)})])
def test_dates_and_long_numbers_keep_their_digits_in_the_names_of_slices(values, expected):
    assert Counter(slice_names(values)) == expected


@pytest.mark.parametrize("missing", ["", "NA", "nan", "N/A", "null", "-"])
def test_a_missing_number_is_a_slice_of_its_own_and_the_others_stay_numbers(missing):
    assert Counter(slice_names([missing, *map(str, range(40)), missing])) == {"(missing)": 2, "0 to 9": 10, "10 to 19": 10, "20 to 29": 10, "30 to 39": 10}
    assert slice_names(["phone", missing]) == ["phone", "(missing)"] and slice_names([missing] * 3) == ["(missing)"] * 3


@pytest.mark.parametrize("common, others, expected", [
    (0, range(200, 300, 5), {"0": 80, "200 to 295": 20}), (0, range(-300, -200, 5), {"-300 to -205": 20, "0": 80}),
    (5, [*range(-8, 2), *range(9, 19)], {"-8 to 1": 10, "5": 80, "9 to 18": 10}),
    (0, range(1, 121), {"0": 80, "1 to 20": 20, "21 to 70": 50, "71 to 120": 50})])
def test_a_number_that_most_images_have_is_a_slice_apart_from_the_others(common, others, expected):
    assert Counter(slice_names([*map(str, others), *[str(common)] * 80])) == expected
