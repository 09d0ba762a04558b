"What a user loses when shares of the images are not nested, an interrupted learning curve starts again, or its band promises too much."
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from folders import picture, save

from image_classifier.cli import main
from image_classifier.config import compose
from image_classifier.core import ConfigError, DataError, save_tensors
from image_classifier.data import load_data
from image_classifier.metrics import fit_learning_curve
from image_classifier.models import build_model
from image_classifier.runs import learning_curves, train_learning_curve
from image_classifier.training import features

WORDS = ["data=digits", "hyperparameters=fast", "epochs=1"]
SHARES = [0.1, 0.2, 0.4, 0.8]


# the law


@pytest.mark.parametrize("law", [(0.0, 0.5, 0.2), (0.05, 0.4, 0.5), (0.2, 0.3, 1.5), (0.3, 0.0, 0.5)])
def test_exact_errors_are_continued_exactly(law):
    "Errors on the law, of as many test images as make them exact to four digits."
    sizes, n = np.array([100, 200, 400, 800, 1600]), 20_000
    errors = law[0] + law[1] * (sizes / 100.0) ** -law[2]
    correct = np.arange(n) >= np.round(errors * n)[:, None]
    curve = fit_learning_curve(sizes, correct[:, None], draws=100)
    expected = 1 - law[0] - law[1] * 32.0 ** -law[2]
    assert abs(curve.accuracy(3200).value - expected) < 0.003
    assert curve.accuracy(3200).low <= expected <= curve.accuracy(3200).high


def test_more_images_never_make_the_curve_worse():
    rng = np.random.default_rng(0)
    for seed in range(20):
        correct = rng.random((5, 2, 200)) < rng.random((5, 1, 1))
        curve = fit_learning_curve([10, 20, 40, 80, 160], correct, draws=100, seed=seed)
        gain, accuracy = curve.gain(), curve.accuracy(320)
        assert 0 <= gain.low <= gain.value <= gain.high <= 1 and 0 <= accuracy.low <= accuracy.value <= accuracy.high <= 1


def test_the_band_is_the_same_again_and_narrower_with_more_runs():
    rng = np.random.default_rng(0)
    sizes = [100, 200, 400, 800, 1600]
    errors = np.array([0.5, 0.4, 0.33, 0.28, 0.24])[:, None, None]
    many = rng.random((5, 8, 2000)) >= errors
    one, again, eight = fit_learning_curve(sizes, many[:, :1]), fit_learning_curve(sizes, many[:, :1]), fit_learning_curve(sizes, many)
    assert one.as_dict() == again.as_dict()
    assert eight.gain().high - eight.gain().low < one.gain().high - one.gain().low


def test_a_band_without_errors_is_as_wide_as_that_of_one_accuracy():
    "All of 100 test images right: Wilson's interval; groups of ten images count once."
    correct = np.ones((4, 1, 100), bool)
    one, grouped = (fit_learning_curve([30, 60, 90, 150], correct, units) for units in (None, np.arange(100) // 10))
    found, wider = one.accuracy(300), grouped.accuracy(300)
    assert np.allclose(found[1:], (0.963, 1), atol=5e-4) and one.gain().high >= 0.01
    assert wider.high - wider.low > 5 * (found.high - found.low)


def test_a_curve_that_starts_with_guesses_is_no_error():
    "With few images of many classes, the law may expect an error above 1 where it was measured."
    correct = np.random.default_rng(0).random((4, 1, 500)) >= np.array([1.0, 0.999, 0.995, 0.9])[:, None, None]
    curve = fit_learning_curve([10, 20, 40, 80], correct)
    assert curve.law[:2].sum() < 1 < curve.law[0] + curve.law[1] * 8 ** curve.law[2] and curve.accuracy(10).value == 0


# runs


def quick(folder, words=(), shares=SHARES, **more):
    with warnings.catch_warnings(action="ignore"):
        return train_learning_curve(compose([*WORDS, *words]), shares, folder=folder, **more)


def test_an_interrupted_learning_curve_is_continued(tmp_path, monkeypatch):
    calls, train = [], learning_curves.train
    def stops(config, place, **more):
        calls.append(place.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(config, place, **more)
    monkeypatch.setattr(learning_curves, "train", stops)
    with pytest.raises(KeyboardInterrupt):
        quick(tmp_path / "curve")
    found = quick(tmp_path / "curve")
    assert [several[0].reused for several in found.runs] == [True, True, False, False]
    assert calls[3:] == [f"share_{share:g}_seed_42" for share in SHARES]


def test_all_shares_have_the_same_test_images_and_are_nested(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(learning_curves, "train", lambda config, place, splits, **_: seen.append(splits))
    monkeypatch.setattr(learning_curves, "_fit", lambda runs: None)
    quick(tmp_path / "curve", repeats=2)
    digits = load_data("digits")
    assert len(seen) == 8
    assert all(one.test.ids == digits.test.ids and one.valid.ids == digits.valid.ids for one in seen)
    for repeat in (0, 1):
        ids = [set(one.train.ids) for one in seen[repeat::2]]
        assert all(small < large for small, large in zip(ids, ids[1:])) and ids[-1] < set(digits.train.ids)
        assert len({len(one.train) for one in seen[repeat::2]}) == 1, "small shares are trained for fewer steps"
    assert seen[0].train.ids != seen[1].train.ids, "another seed takes other images"


def test_features_of_an_image_are_computed_once_for_all_shares(tmp_path, monkeypatch):
    "With a linear probe the whole learning curve takes seconds."
    save_tensors(tmp_path / "weights.safetensors", build_model("simple_cnn", classes=10, channels=1, size=8, seed=1).state_dict())
    computed, compute = [], features.compute_features
    def counted(model, dataset, preprocess, precision, rows=None, progress=None):
        computed.append(len(dataset) if rows is None else len(rows))
        return compute(model, dataset, preprocess, precision, rows=rows, progress=progress)
    monkeypatch.setattr(features, "compute_features", counted)
    words = ["data=digits", "model=simple_cnn", f"model.weights={tmp_path}/weights.safetensors", "finetune=probe", f"data.cache_dir={tmp_path}/cache"]
    with warnings.catch_warnings(action="ignore"):
        found = train_learning_curve(compose(words), SHARES, folder=tmp_path / "curve")
    digits = load_data("digits")
    images = {digest.tobytes() for part in (digits.train, digits.valid, digits.test) for digest in part.digests}
    assert sum(computed) <= len(images) and len(found.curve.sizes) == 4
    assert found.curve.sizes[-1] == found.runs[-1][0].metrics["data"]["train"] + len(digits.valid) and "both are counted" in str(found), "what a probe is fitted to"


def test_groups_stay_whole_and_every_class_has_its_share():
    digits = load_data("digits").train
    grouped = replace(digits, groups=tuple(f"writer {row % 97}" for row in range(len(digits))))
    for rows in learning_curves.curve_shares(grouped, SHARES, seed=1):
        taken = {grouped.groups[row] for row in rows}
        assert len(rows) == sum(group in taken for group in grouped.groups)
        assert np.bincount(grouped.targets[rows], minlength=10).min() >= 5


@pytest.mark.parametrize("count, words, line", [
    (12, [], "in the smallest share (0.0625). a learning curve needs 5 there: add images, or use larger shares"),
    (60, ["--shares", "0.05,0.1,0.5,1"], "in the smallest share (0.05)")])
def test_too_few_images_are_refused_in_one_line(tmp_path, capsys, count, words, line):
    for number in range(count):
        save(tmp_path / "pets" / ("cat" if number % 2 else "dog") / f"{number}.png", picture(number))
    assert main(["learning-curve", f"data={tmp_path}/pets", "epochs=1", *words, "--out", str(tmp_path / "curve")]) == 3
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: class ") and line in last and not (tmp_path / "curve").exists()


@pytest.mark.parametrize("words, line", [
    (["--shares", "0.5,1"], "shares must be four or more different numbers > 0 and <= 1, got 0.5, 1"),
    (["--shares", "0.1,0.2,0.5,nan"], "shares must be four or more"), (["--shares", "0.1,0.2,0.5,1e400"], "shares must be four or more"),
    (["--shares", "0.1,0.2,half,1"], "--shares must be numbers separated by commas"), (["--shares", "1,1,1,1"], "shares must be four or more"),
    (["--out", ""], "an option has an empty value"), (["data.train_fraction=0.5"], "a learning curve chooses the training images itself"),
    (["data.train_repeat_to=9"], "a learning curve chooses the training images itself"), (["resume=runs/x"], "a learning curve cannot resume one run"), (["--repeats", "101"], "101 is not in the range"),
    (["--repeats", "two"], "'two' is not a valid integer")])
def test_wrong_use_is_refused_before_any_training(tmp_path, capsys, words, line):
    assert main(["learning-curve", *WORDS, "--out", str(tmp_path / "curve"), *words]) == 2
    assert line in capsys.readouterr().err and not (tmp_path / "curve").exists()


def test_shares_that_take_the_same_images_are_no_sizes_of_their_own(tmp_path):
    "Two shares that differ by less than one image would be one point counted twice."
    with pytest.raises(DataError, match="the shares 0.4 and 0.4 are the same"):
        quick(tmp_path / "curve", shares=[0.1, 0.2, 0.4, 0.4 + 1e-9])
    assert not list(tmp_path.glob("curve/share*")), "nothing is trained for it"


def test_the_command_answers_in_json_and_writes_the_curve(tmp_path, capsys):
    words = ["learning-curve", *WORDS, "--shares", "0.1,0.2,0.4,0.8", "--out", str(tmp_path / "curve"), "--json"]
    with warnings.catch_warnings(action="ignore"):
        assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["doubling"]["images"] == 2 * found["sizes"][-1] and len(found["accuracy"]) == 4 and "band" not in found
    assert found["doubling"]["gain"]["low"] <= found["doubling"]["gain"]["value"] <= found["doubling"]["gain"]["high"]
    written = json.loads((tmp_path / "curve" / "learning_curve.json").read_text())
    moved = (tmp_path / "curve").rename(tmp_path / "moved")
    assert all((moved / name).is_dir() for several in written["runs"] for name in several), "a moved folder still finds its runs"
    moved.rename(tmp_path / "curve")
    assert {**written, "run": found["run"], "runs": found["runs"]} == {"format": 1, **found} and written["run"] == "." and (tmp_path / "curve" / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"
    assert main([*words, "lr=0.1"]) == 2, "runs of another configuration are there"
    assert "the run folder holds another run" in capsys.readouterr().err


def test_a_folder_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        quick(tmp_path / "mine")


def test_a_share_says_what_it_is_and_its_configuration_repeats_it(tmp_path, capsys):
    "A run on a share names it in its metrics, its card, a comparison and its config.yaml."
    found = quick(tmp_path / "curve")
    (small,), (large,) = found.runs[0], found.runs[-1]
    data = small.metrics["data"]
    assert (data["train"], data["train_fraction"], large.metrics["data"]["train"]) == (130, 0.1, 1034)
    assert "trained on 130 images, a share of 0.1 of the training images, for" in (small.path / "classifier" / "README.md").read_text()
    with warnings.catch_warnings(action="ignore"):
        assert main(["train", "--config", str(small.path / "config.yaml"), "--out", str(tmp_path / "again"), "--json"]) == 0
        again = json.loads(capsys.readouterr().out)
        assert main(["evaluate", str(small.path)]) == 0
        assert main(["compare", str(small.path), str(large.path)]) == 0
    assert again["metrics"]["test"] == small.metrics["test"] and again["metrics"]["data"] == data
    text = capsys.readouterr().out
    assert [line.split()[1:] for line in text.splitlines() if line.startswith(("data.train_fraction ", "train images"))] == [["0.1", "0.8"], ["images", "130", "1,034"]]


@pytest.mark.parametrize("shares, line", [([0.1, 0.2, 0.4, 0.6], "has a share of 0.8, now the shares are 0.1, 0.2, 0.4, 0.6"),
                                          ([0.1, 0.2, 0.4, 0.8, 1], "has another largest share, now the shares are 0.1, 0.2, 0.4, 0.8, 1")])
def test_a_learning_curve_is_not_continued_with_shares_that_do_not_fit(tmp_path, monkeypatch, shares, line):
    quick(tmp_path / "curve")
    monkeypatch.setattr(learning_curves, "train", lambda *_, **more: pytest.fail("a share was trained"))
    with pytest.raises(ConfigError, match=f"the learning curve there {line}"):
        quick(tmp_path / "curve", shares=shares)


def test_a_smaller_share_can_be_added(tmp_path):
    quick(tmp_path / "curve")
    found = quick(tmp_path / "curve", shares=[0.05, *SHARES])
    assert [several[0].reused for several in found.runs] == [False, True, True, True, True]


def test_one_test_image_is_refused_before_any_training(tmp_path, capsys):
    for number in range(60):
        save(tmp_path / "pets" / ("cat" if number % 2 else "dog") / f"{number}.png", picture(number))
    rows = [f"pets/{'cat' if number % 2 else 'dog'}/{number}.png,{'cat' if number % 2 else 'dog'},{'test' if not number else 'valid' if number < 9 else 'train'}" for number in range(60)]
    (tmp_path / "pets.csv").write_text("\n".join(["file,label,split", *rows]))
    words = ["data=csv", f"data.root={tmp_path}/pets.csv", "data.split_column=split", "epochs=1", "allow=[empty_class,leaks]", "--shares", "0.25,0.5,0.75,1"]
    assert main(["learning-curve", *words, "--out", str(tmp_path / "curve")]) == 3
    assert "a learning curve needs two or more test images" in capsys.readouterr().err and not (tmp_path / "curve").exists()
