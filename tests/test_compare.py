"""Comparing runs: the verdict, the numbers behind it, and what is refused; on small runs written without training."""
import functools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from image_classifier.cli import main
from image_classifier.config import compose, to_yaml
from image_classifier.core import ArtifactError, ConfigError, DataError, load_tensors, markdown_text, save_tensors
from image_classifier.metrics import compare_evaluations, compute_metrics, Evaluation, holm, mcnemar, save_predictions
from image_classifier.runs import compare_runs
from image_classifier.training import EpochResult

CLASSES = ("ant", "bee", "fly")


@functools.cache
def evaluated(skill=2.0, seed=1, n=300, images=0, group=1, classes=CLASSES):
    "Return an evaluation of simulated logits; the same `images` have the same labels and are equally hard for all."
    hard, own = np.random.default_rng(images), np.random.default_rng(seed)
    targets, shared = hard.integers(0, len(classes), n), hard.normal(size=(n, len(classes)))
    logits = (skill * np.eye(len(classes))[targets] + shared + own.normal(size=shared.shape)).astype(np.float32)
    units = np.arange(n) // group
    return Evaluation(logits, targets, classes, np.arange(n), units, compute_metrics(logits, targets, classes, units=units))


def measured(found, **changes):
    "Return an evaluation with changes, and the metrics that follow from them."
    found = replace(found, **changes)
    return replace(found, metrics=compute_metrics(found.logits, found.targets, found.classes, units=found.units))


def write_run(folder, found, words=(), pixels=0, epochs=2):
    "Write what a comparison reads of a run."
    (folder / "predictions").mkdir(parents=True)
    save_predictions(folder / "predictions" / "test.safetensors", found)
    (folder / "config.yaml").write_text(to_yaml(compose(list(words))))
    (folder / "history.jsonl").write_text("".join(
        json.dumps(vars(EpochResult(i, i, 0.1, 1 / i, 0.5, 1 / i, 0.6, 1.0))) + "\n" for i in range(1, epochs + 1)))
    metrics = {"data": {"train": 9, "valid": 9, "test": len(found.targets), "fingerprint": "0123456789"}, "epochs": epochs, "best_epoch": 1,
               "valid": found.metrics, "test": found.metrics}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    names = torch.from_numpy(found.hashes)
    save_tensors(folder / "images.safetensors", {"names": names, "pixels": torch.stack([names, names + pixels], 1), "counts": torch.tensor([0, 0, len(names)])})
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    "Three runs: b is better than a, c is as good as a."
    place = tmp_path_factory.mktemp("runs")
    for name, words, found in [("a", (), evaluated(2.0, 1)), ("b", ["augment.mixup=0.2", "lr=0.01"], evaluated(3.0, 2)), ("c", ["seed=7"], evaluated(2.0, 5))]:
        write_run(place / name, found, words)
    return place


@pytest.fixture
def own(runs, tmp_path):
    "A copy of the runs that may be damaged."
    return shutil.copytree(runs, tmp_path / "runs")


# ---------------------------------------------------------------- what a user reads

def test_the_verdict_says_which_is_better_by_how_much_and_how_sure(runs, capsys):
    assert main(["compare", str(runs / "a"), str(runs / "b")]) == 0
    out = capsys.readouterr().out
    accuracy = [evaluated(*one).metrics["accuracy"]["value"] for one in ((2.0, 1), (3.0, 2))]
    assert f"b is more accurate than {runs}/a: {accuracy[1]:.3f} instead of {accuracy[0]:.3f}, difference +{accuracy[1] - accuracy[0]:.3f} [" in out.splitlines()[0]
    assert "p < 0.001" in out.splitlines()[0] and "another seed may change it" in out.splitlines()[0]
    assert [line.split() for line in out.splitlines() if line.startswith(("augment", "hyper"))] == [["augment.mixup", "0.0", "0.2"], ["hyperparameters.learning_rate", "0.001", "0.01"]]
    assert main(["compare", str(runs / "b"), str(runs / "a")]) == 0
    assert f"a is less accurate than {runs}/b: " in capsys.readouterr().out
    assert main(["compare", str(runs / "a"), str(runs / "c")]) == 0
    assert capsys.readouterr().out.startswith("no difference in accuracy is shown between")


def test_json_keeps_its_contract(runs, capsys):
    assert main(["compare", str(runs / "a"), str(runs / "b"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["a"], found["b"], found["n"]) == (str(runs / "a"), str(runs / "b"), 300)
    assert {"accuracy", "loss", "f1_macro", "ece"} <= set(found["measures"])
    for name, one in found["measures"].items():
        assert {"a", "b", "difference", "p_value", "test"} <= set(one)
        assert one["difference"] == pytest.approx(one["b"] - one["a"], abs=1e-9) and one["low"] <= one["difference"] <= one["high"], name
    assert found["measures"]["accuracy"]["test"] == "McNemar over images, mid-p"


def test_more_than_two_runs_are_corrected_and_the_first_is_the_baseline(runs, capsys):
    assert main(["compare", *(str(runs / name) for name in "abc"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(one["a"], one["b"]) for one in found["comparisons"]] == [(str(runs / "a"), str(runs / name)) for name in "bc"]
    accuracy = [one["measures"]["accuracy"] for one in found["comparisons"]]
    assert [one["p_holm"] for one in accuracy] == holm([one["p_value"] for one in accuracy]) and accuracy[0]["p_holm"] == 2 * accuracy[0]["p_value"]


def test_a_folder_with_figures_and_a_markdown_file(runs, tmp_path, capsys):
    out, file = tmp_path / "out", tmp_path / "pr.md"
    for _ in range(2):  # the second time replaces the first
        assert main(["compare", str(runs / "a"), str(runs / "b"), "--out", str(out), "--markdown", str(file)]) == 0
    assert {path.name for path in out.iterdir()} - {".image_classifier.json"} == {"comparison.md", "comparison.json", "curves.png", "differences.png"}
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG") and (out / "comparison.md").read_text() == file.read_text()
    lines = file.read_text().splitlines()
    assert lines[0] == "## Comparison of runs" and lines[2].startswith("**") and "| setting |" in file.read_text()
    assert len({line.count("|") for line in lines if line.startswith(("| measure", "| accuracy", "| ece"))}) == 1


def test_markup_in_a_name_does_not_break_the_page(own):
    evil = own / "b|<b>`x`"
    (own / "b").rename(evil)
    found = compare_runs(own / "a", evil, draws=50)
    row = next(line for line in found.markdown.splitlines() if line.startswith("| measure"))
    assert row.count("|") == 6 and "<b>" not in found.markdown + found._repr_html_()


def test_class_names_from_outside_notify_nobody_and_stay_in_their_cells(own):
    classes = ("@team|x", "[a](http://b.c) `#1` <img src=x>", "n" * 5000)
    for name, skill in (("x", 2.0), ("y", 3.0)):
        write_run(own / name, evaluated(skill, 1, classes=classes))
    text = compare_runs(own / "x", own / "y", draws=50).markdown
    matrix = [line for line in text.split("</summary>")[1].splitlines() if line.startswith("|")]
    assert {line.count("|") for line in matrix} == {5} and max(map(len, matrix)) < 400
    assert not any(mark in text for mark in ("@team", "](", "://", "`#", "#1&", "<img"))


def test_a_pull_request_sees_curves_confusion_time_and_size(own):
    metrics = json.loads((own / "b" / "metrics.json").read_text()) | {"time": {"train_seconds": 12.25}, "model": {"parameters": 1234567}}
    (own / "b" / "metrics.json").write_text(json.dumps(metrics))
    (own / "b" / "classifier").mkdir()
    (own / "b" / "classifier" / "model.safetensors").write_bytes(bytes(2_500_000))
    found = compare_runs(own / "a", own / "b", draws=50)
    text = found.markdown
    assert text.count("xychart-beta") == 2 and text.count("line [1.0000, 0.5000]") == 2
    for row in ("| parameters | – | 1,234,567 |", "| weights (MB) | – | 2.50 |", "| training time (s) | – | 12.2 |"):
        assert row in text
    assert "trained images per second" not in text, "no run has stored it"
    counts = [[int(cell.strip() or 0) for cell in line.split("|")[2:-1]] for line in text.split("</summary>")[2].splitlines() if line.startswith(("| ant", "| bee", "| fly"))]
    assert np.array_equal(counts, evaluated(3.0, 2).confusion)


def test_a_significant_loss_of_accuracy_fails_where_that_is_asked_for(runs, tmp_path, capsys):
    pairs = {("a", "b"): 0, ("b", "a"): 4, ("a", "c"): 0}
    for (first, second), code in pairs.items():
        file = tmp_path / f"{first}{second}.md"
        words = ["compare", str(runs / first), str(runs / second), "--json", "--markdown", str(file)]
        assert main(words) == 0, "only where it is asked for"
        assert main([*words, "--fail-if-worse"]) == code
        out, err = capsys.readouterr()
        assert json.loads(out.splitlines()[-1])["b"] == str(runs / second) and file.exists(), "printed and written all the same"
        assert err.count("\n") == bool(code) and ("by more than chance" in err) == bool(code)


# ---------------------------------------------------------------- what is refused

@pytest.mark.parametrize("change, code, message", [
    (lambda own: write_run(own / "x", evaluated(n=250)), 3, "the test images differ: 250 are shared, of 300 and 250"),
    (lambda own: write_run(own / "x", replace(evaluated(), hashes=np.arange(300) + 1000)), 3, "the test images differ: 0 are shared, of 300 and 300"),
    (lambda own: write_run(own / "x", evaluated(classes=("ant", "bee", "wasp"))), 3, "the classes differ: fly; wasp"),
    (lambda own: write_run(own / "x", evaluated(classes=(*CLASSES, "wasp"))), 3, "the classes differ: wasp"),
    (lambda own: write_run(own / "x", measured(evaluated(), targets=(evaluated().targets + 1) % 3)), 3, "300 test images have another label"),
    (lambda own: write_run(own / "x", evaluated(), pixels=1), 3, "300 test images have the same names and other pixels"),
    (lambda own: (write_run(own / "x", evaluated()) / "metrics.json").unlink(), 4, "the run is not finished, so it has no predictions"),
    (lambda own: (write_run(own / "x", evaluated()) / "predictions" / "test.safetensors").unlink(), 4, "the run has no predictions for the test images"),
    (lambda own: (write_run(own / "x", evaluated()) / "predictions" / "test.safetensors").write_bytes(b"none"), 4, "test.safetensors"),
    (lambda own: (own / "x").mkdir(), 2, "no run there"),
    (lambda own: (own / "x").write_text("a file"), 2, "no run there"),
    (lambda own: (own / "x").symlink_to(own / "a"), 2, "the same run is named twice"),
    (lambda own: shutil.copy(own / "a" / "predictions" / "test.safetensors", write_run(own / "x", evaluated(2.0, 5)) / "predictions"), 4, "the predictions do not match the metrics"),
    (lambda own: save_predictions(write_run(own / "x", evaluated()) / "predictions" / "test.safetensors", replace(evaluated(), logits=evaluated().logits * 2)), 4, "the predictions do not match the metrics"),
    (lambda own: (write_run(own / "x", evaluated()) / "images.safetensors").write_bytes(b"none"), 4, "images.safetensors"),
    (lambda own: (write_run(own / "x", evaluated(), ["data.size=16"]) / "images.safetensors").write_bytes(b"none"), 4, "images.safetensors"),
    (lambda own: None, 2, "no run there")])
def test_runs_that_cannot_be_compared_are_refused_in_one_line(own, capsys, change, code, message):
    change(own)
    assert main(["compare", str(own / "a"), str(own / "x"), "--out", str(own / "out"), "--markdown", str(own / "out.md")]) == code
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and not (own / "out").exists() and not (own / "out.md").exists()


def test_runs_before_and_after_test_images_were_left_out_are_compared_on_those_that_both_have(own, capsys):
    first, later = evaluated(2.0, 1), evaluated(3.0, 2)
    write_run(own / "x", measured(later, **{name: getattr(later, name)[7:] for name in ("logits", "targets", "hashes", "units")}))
    assert main(["compare", str(own / "a"), str(own / "x"), "--shared", "--json", "--markdown", str(own / "out.md")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 293 and found["left_out"] == {str(own / "a"): 7, str(own / "x"): 0}
    assert found["measures"]["accuracy"]["a"] == pytest.approx((first.predicted == first.targets)[7:].mean())
    assert "Test images that not all of the runs have are left out: 7 of " in (own / "out.md").read_text()
    assert main(["compare", str(own / "a"), str(own / "x")]) == 3 and "or only the shared ones (--shared)" in capsys.readouterr().err
    assert compare_runs(own / "a", own / "b", shared=True, draws=50).as_dict() == compare_runs(own / "a", own / "b", draws=50).as_dict()


@pytest.mark.parametrize("words, message", [([], "at least two runs, 0 given"), (["a"], "at least two runs, 1 given"), (["a", "b", "a/"], "the same run is named twice")])
def test_a_comparison_needs_two_runs(own, capsys, monkeypatch, words, message):
    monkeypatch.chdir(own)
    assert main(["compare", *words]) == 2 and message in capsys.readouterr().err


def test_images_of_another_size_are_still_the_same_images(own):
    write_run(own / "x", evaluated(3.0, 2), ["data.size=16"], pixels=5)
    found = compare_runs(own / "a", own / "x", draws=50)
    assert found.n == 300 and found.as_dict()["unchecked_pixels"] == {str(own / "x"): "size, channels or resize differ"}
    assert found.notes[-1].startswith("It was not checked whether the test images of") and markdown_text(found.notes[-1], 2000) in found.markdown


def test_a_run_without_a_record_of_its_images_is_compared_and_says_so(own):
    (own / "b" / "images.safetensors").unlink()
    found = compare_runs(own / "a", own / "c", own / "b", draws=50)
    assert list(found.unchecked) == [str(own / "b")] and found.notes[-1].endswith("images.safetensors.")
    assert compare_runs(own / "a", own / "c", draws=50).as_dict()["unchecked_pixels"] == {}


def test_sizes_chosen_by_auto_are_sizes_too(own):
    "Two networks for which data.size=auto chose other sizes see other pixels of the same images."
    for name, size in (("a", 8), ("x", 32), ("y", 8)):
        folder = own / name if name == "a" else write_run(own / name, evaluated(3.0, 2), pixels=5)
        (folder / "classifier").mkdir()
        (folder / "classifier" / "classifier.json").write_text(json.dumps({"preprocess": {"size": size, "channels": 1, "resize": "crop"}}))
    assert list(compare_runs(own / "a", own / "x", draws=50).unchecked) == [str(own / "x")]
    with pytest.raises(DataError, match="300 test images have the same names and other pixels"):
        compare_runs(own / "a", own / "y", draws=50)


# ---------------------------------------------------------------- damaged files

@pytest.mark.parametrize("changes, wrong", [
    ({"valid": {}, "test": {}, "data": {}}, "data"), ({"data": None}, "data"), ({"data": {"train": 9, "valid": 9, "test": "300", "fingerprint": "0"}}, "data"),
    ({"test": None}, "test"), ({"test": {"accuracy": 0.5}}, "test"), ({"valid": {**evaluated().metrics, "per_class": [1]}}, "valid"),
    ({"test": {**evaluated().metrics, "accuracy": 0.5}}, "test"), ({"test": {**evaluated().metrics, "per_class": {"ant": None, "bee": None, "fly": None}}}, "test"),
    ({"epochs": True}, "epochs"), ({"best_epoch": None}, "best_epoch"), ({"calibration": [1]}, "calibration"), ({"calibration": {"temperature": "x"}}, "calibration"),
    ({"calibration": {"temperature": {"value": 0, "low": 0, "high": 1}}}, "calibration"), ({"calibration": {"temperature": {"value": "x", "low": 0, "high": 1}}}, "calibration")])
def test_metrics_of_another_shape_are_named_with_their_file(own, changes, wrong):
    path = own / "b" / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ArtifactError, match=f"not the metrics of a run: {wrong}[ .].*b/metrics.json.*restore the file"):
        compare_runs(own / "a", own / "b", draws=50)


@pytest.mark.parametrize("name, text, message", [
    ("metrics.json", '{"format": 99}', "made in format 99 by version unknown, this is .* and reads up to 1 .*b/metrics.json.*upgrade"),
    ("metrics.json", "[1]", "a mapping of keys to values is needed, got .1. .*restore the file"), ("metrics.json", "NaN", "not valid JSON.*restore the file"),
    ("metrics.json", '{"data": {"train": 9, "valid": 9, "test": "300", "fingerprint": "0"}}', 'data.test needs a whole number, got "300" .*restore the file'),
    ("history.jsonl", '{"epoch": 1}\n', "history.jsonl, line 1 is not an epoch: step, lr, .* missing .*restore the file from a copy of the run, or train again"),
    ("history.jsonl", "", "no such file.*b/history.jsonl.*restore the file"), ("predictions/test.safetensors", "", "has no predictions.*restore the file"),
    ("config.yaml", "\n", "this file holds no configuration: it is empty .*b/config.yaml.*restore the file")])
def test_a_damaged_or_missing_file_of_a_run_is_named_with_a_way_out(own, name, text, message):
    (own / "b" / name).unlink()
    if text:
        (own / "b" / name).write_text(text)
    with pytest.raises(ArtifactError, match=message):
        _ = compare_runs(own / "a", own / "b", draws=50).markdown


@pytest.mark.parametrize("change, message", [
    ({"targets": torch.full((300,), 100)}, "targets that are none of 3 classes"), ({"targets": torch.full((300,), -1)}, "targets that are none of 3 classes"),
    ({"targets": torch.zeros(300)}, "targets of another type"), ({"hashes": torch.zeros(300, dtype=torch.bool)}, "hashes of another type"),
    ({"logits": torch.full((300, 3), torch.nan)}, "non-finite values in logits"), ({"logits": torch.zeros(300, 3, dtype=torch.bfloat16)}, "logits of another type")])
def test_predictions_that_are_none_are_named_with_their_file(own, change, message):
    path = own / "b" / "predictions" / "test.safetensors"
    save_tensors(path, {**load_tensors(path), **change})
    with pytest.raises(ArtifactError, match=f"{message}.*b/predictions/test.safetensors"):
        compare_runs(own / "a", own / "b", draws=50)


# ---------------------------------------------------------------- the statistics

def test_published_p_values_of_mcnemars_test():
    "The tables of statsmodels' tests, the published p-values there, and SciPy's binomial test."
    for only_a, only_b, published in [(121, 59, 4e-6), (70, 59, 0.378688), (80, 59, 0.089452), (30, 60, 0.00206), (10, 30, 0.002221), (10, 10, 1.0)]:
        a = np.repeat([True, False], [only_a, only_b])
        assert mcnemar(a, ~a).exact == pytest.approx(published, abs=1e-6) == pytest.approx(stats.binomtest(only_a, len(a)).pvalue, abs=1e-6)


def test_tests_of_equally_good_classifiers_keep_their_level():
    rng, n = np.random.default_rng(4), 200
    for group, correlation in [(1, 0.0), (10, 0.3)]:
        units, found = np.arange(n) // group, []
        for _ in range(500):
            scores = np.sqrt(correlation) * rng.normal(size=(2, n // group))[:, units] + np.sqrt(1 - correlation) * rng.normal(size=(2, n))
            found.append(mcnemar(*(scores > -0.8), units))
        exact, mid_p = (np.array(found) <= 0.05).mean(0)
        assert exact <= 0.05 and 0.025 <= mid_p <= 0.075


def test_the_paired_t_test_of_the_losses_is_scipys():
    "The bootstrap approaches it as the draws increase."
    a, b = evaluated(2.0, 1), evaluated(2.2, 2)
    losses = [-np.log(one.probabilities[np.arange(300), one.targets]) for one in (a, b)]
    found, test = compare_evaluations(a, b, draws=4000)["loss"], stats.ttest_rel(*losses[::-1])
    interval = test.confidence_interval()
    assert found.difference.value == pytest.approx(losses[1].mean() - losses[0].mean(), abs=1e-9)
    assert found.difference[1:] == pytest.approx((interval.low, interval.high), rel=0.05) and found.p_value == pytest.approx(test.pvalue, rel=0.15)


def test_copies_of_an_image_prove_nothing():
    "Ten copies of each image, as groups, give the intervals of the images themselves."
    single = [evaluated(2.0, 1, 60), evaluated(3.0, 2, 60)]
    copied = [replace(one, **{name: np.repeat(getattr(one, name), 10, 0) for name in ("logits", "targets", "units")}, hashes=np.arange(600)) for one in single]
    apart = [replace(one, units=np.arange(600)) for one in copied]
    plain, grouped, naive = (compare_evaluations(*pair)["accuracy"] for pair in (single, copied, apart))
    width = [one.difference.high - one.difference.low for one in (plain, grouped, naive)]
    assert grouped.p_value == pytest.approx(plain.p_value) and width[1] == pytest.approx(width[0], rel=0.1) and width[2] < width[0] / 2


def test_the_order_of_the_runs_does_not_decide_and_groups_of_any_run_count(own):
    "a and c know no groups, x groups of ten images, and y others that connect all groups of x."
    write_run(own / "x", evaluated(2.3, 4, group=10)), write_run(own / "y", replace(evaluated(2.3, 4), units=(np.arange(300) + 5) // 10))
    both = [compare_runs(*pair, draws=200) for pair in ((own / "a", own / "x"), (own / "x", own / "a"))]
    forth, back = (found.pairs[0] for found in both)
    assert [found.units for found in both] == [30, 30] and forth["accuracy"].test == back["accuracy"].test == "McNemar over groups of images, mid-p"
    for name in forth:
        assert forth[name].p_value == pytest.approx(back[name].p_value) and forth[name].a == back[name].b and forth[name].b == back[name].a
    assert forth["accuracy"].a.as_dict() == evaluated(2.0, 1, group=10).metrics["accuracy"]
    third = compare_runs(own / "a", own / "c", own / "x", draws=50)  # the groups that the last run knows are the groups of all
    assert third.units == 30 and {pair["accuracy"].test for pair in third.pairs} == {"McNemar over groups of images, mid-p"}
    with pytest.raises(DataError, match="at least two test images that are not in one group"):
        compare_runs(own / "x", own / "y", draws=50)


def test_classifiers_that_agree_on_every_image_are_not_proved_equal():
    one = evaluated(4.0, 1, 20)
    found = compare_evaluations(one, one)["f1_macro"]
    assert found.p_value == 1 and found.difference.low < -0.02 and found.difference.high > 0.02
    groups = measured(evaluated(9.0, 1, 200), units=np.arange(200) // 10)  # that agree on 20 groups of ten say as much as 20 images
    widths = [compare_evaluations(one, one)["accuracy"].difference.high for one in (measured(evaluated(9.0, 1, 20)), groups)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    pair = [measured(evaluated(9.0, 1, 20), units=np.arange(20) // 10)]  # of two groups there is hardly anything to say
    assert compare_evaluations(*2 * pair)["accuracy"].difference == (0, -1, 1)


def test_a_comparison_of_linear_probes_does_not_blame_the_seed(tmp_path):
    probe = ["model=resnet18", "model.weights=DEFAULT", "finetune=probe"]
    for name, words, seed in (("a", probe, 1), ("b", probe, 2), ("c", [], 3)):
        write_run(tmp_path / name, evaluated(2.0, seed), words)
    texts = [compare_runs(tmp_path / "a", tmp_path / other, draws=50).verdicts[0] for other in "bc"]
    assert texts[0].endswith("another seed would not change it.") and texts[1].endswith("another seed may change it.")


# ---------------------------------------------------------------- several seeds

@pytest.fixture
def sets(tmp_path):
    "Two sets of three seeds each; within a set the skill varies a lot."
    for name, skill in (("a", 2.0), ("b", 2.2)):
        for i, change in enumerate((-0.6, 0.0, 0.6)):
            write_run(tmp_path / name / f"seed_{i}", evaluated(skill + change, 10 + i), [f"seed={i}"])
    return tmp_path


def test_two_sets_of_seeds_say_what_dominates(sets, capsys):
    assert main(["compare", str(sets / "a"), str(sets / "b"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    accuracy, single = found["measures"]["accuracy"], compare_runs(sets / "a" / "seed_1", sets / "b" / "seed_1").as_dict()["measures"]["accuracy"]
    assert accuracy["seed_share"] > 0.5 and "The seeds dominate the uncertainty" in found["verdict"] and "seed" not in found["settings"]
    assert accuracy["high"] - accuracy["low"] > single["high"] - single["low"] and accuracy["test"] == "paired bootstrap over images and seeds"


@pytest.mark.parametrize("words, skill, message", [
    (["seed=9", "epochs=9", "model=resnet"], 2.0, "differ in more than the seed: model.name auto in seed_0, resnet in seed_x; hyperparameters.num_epochs 50 in seed_0, 9 in seed_x"),
    (["seed=9", "data=cifar10"], 2.0, "differ in more than the seed: data.name"), (["seed=1"], 2.0, "seed_1 and seed_x have the same seed 1")])
def test_a_set_of_seeds_holds_nothing_but_other_seeds(sets, capsys, words, skill, message):
    write_run(sets / "a" / "seed_x", evaluated(skill, 20), words)
    assert main(["compare", str(sets / "b"), str(sets / "a")]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_set_of_seeds_trained_on_other_data_is_refused(sets):
    metrics = json.loads((sets / "a" / "seed_1" / "metrics.json").read_text())
    metrics["data"]["fingerprint"] = "ff"
    (sets / "a" / "seed_1" / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(ConfigError, match="differ in more than the seed: data fingerprint 01234567 in seed_0, ff in seed_1"):
        compare_runs(sets / "a", sets / "b")


def test_a_run_of_a_set_is_not_compared_with_its_set(sets, capsys):
    assert main(["compare", str(sets / "a"), str(sets / "a" / "seed_1")]) == 2 and "the same run is named twice" in capsys.readouterr().err


def test_a_comparison_says_how_many_seeds_each_side_has(sets):
    found = compare_runs(sets / "a", sets / "b" / "seed_1", draws=50)
    assert found.as_dict()["seeds"] == [3, 1]
    assert any(note.startswith("Number of seeds: ") and "/a 3, " in note and note.endswith("/seed_1 1.") for note in found.notes), "long names are shortened"


def test_seeds_are_trained_into_one_folder_and_summarized(tmp_path, capsys, monkeypatch):
    from image_classifier.runs import Run, seeds
    monkeypatch.setattr(seeds, "train", lambda config, path, **_: Run(path if path.exists() else write_run(path, evaluated(2.0, config.seed), [f"seed={config.seed}"])))
    for _ in range(2):  # the second time, the finished runs are returned
        assert main(["train", "data=digits", "seeds=3", "seed=5", "--out", str(tmp_path / "three"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    accuracies = [evaluated(2.0, seed).metrics["accuracy"]["value"] for seed in (5, 6, 7)]
    one = found["measures"]["accuracy"]
    assert found["runs"] == [str(tmp_path / "three" / f"seed_{seed}") for seed in (5, 6, 7)]
    assert one["value"] == pytest.approx(np.mean(accuracies)) and one["spread"] == pytest.approx(np.std(accuracies, ddof=1)) and one["low"] < one["value"] < one["high"]
    assert main(["train", "seeds=0"]) == 2 and "seeds must be one integer from 2 to 100" in capsys.readouterr().err
    assert main(["train", "seeds=2", "--out", str(tmp_path / "three" / "seed_5")]) == 2 and "a single run is there" in capsys.readouterr().err
