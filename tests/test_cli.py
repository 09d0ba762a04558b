"""The command `ic` as a user of a shell meets it: results, errors and exit codes."""
import csv
import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import click
import nbformat
import numpy as np
import pytest
from literate import NBS, load_module, module_of
from PIL import Image
from pictures import png
from sklearn.datasets import load_digits

from image_classifier.cli import main
from image_classifier.cli.app import COMMANDS, to_library_error
from image_classifier.cli.common import complete_value
from image_classifier.config import list_presets
from image_classifier.core import DataError, load_tensors, own_folder, save_tensors, write_manifest
from image_classifier.data import load_data
from image_classifier.inference import Classifier
from image_classifier.metrics import compute_metrics
from image_classifier.models import model_names

IC = str(Path(sys.executable).with_name("ic"))


@pytest.fixture
def ic(capsys):
    "Call the command in this process: exit code, stdout, stderr."
    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()
    return call


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "A folder with one finished run of two epochs, and an image."
    home = tmp_path_factory.mktemp("cli")
    assert main(["train", "epochs=2", "hyperparameters=fast", "--out", str(home / "runs" / "first")]) == 0
    digit(0).save(home / "zero.png")
    return home


@pytest.fixture
def first(home):
    return home / "runs" / "first"


def digit(number):
    "Return an image of scikit-learn's digits."
    return Image.fromarray((load_digits().images[number] * 255 / 16).astype(np.uint8))


def one_line(err, *fragments):
    "Check that the error is one line, starts with `error: ` and holds the fragments."
    said = ("epoch ", "warning: ", "stopping after ", "skipped: ", "augmentation: ", "model=auto chose ")
    lines = [line for line in err.splitlines() if line and not line.startswith(said)]
    lines = [line for line in lines if not (line[0].isdigit() and " classes in " in line)]  # what was understood of a folder
    assert len(lines) == 1 and lines[0].startswith("error: "), err
    assert "Traceback" not in err
    for fragment in fragments:
        assert fragment in lines[0], (fragment, lines[0])


# ---------------------------------------------------------------- what a command prints

def test_train_ends_with_the_accuracy_its_interval_and_the_folder(ic, first):
    code, out, err = ic("train", "epochs=2", "hyperparameters=fast", "--out", first)
    assert code == 0
    note, *warnings, model, accuracy, folder = out.splitlines()
    assert note == "an equal run was already finished; nothing was trained again"
    stored = json.loads((first / "metrics.json").read_text())["warnings"]
    assert stored and warnings == [f"warning: {one['message']}" for one in stored]  # after two epochs it is not done
    value = json.loads((first / "metrics.json").read_text())["test"]["accuracy"]
    assert accuracy == f"test accuracy {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}], 95 % interval, 359 images"
    assert folder == f"run {first}"


def test_progress_is_not_mixed_into_the_result(ic, tmp_path):
    code, out, err = ic("--json", "train", "epochs=1", "hyperparameters=fast", "--out", tmp_path / "run")
    assert code == 0 and "epoch 1/1" in err
    answer = json.loads(out)
    assert answer["run"] == str(tmp_path / "run") and answer["reused"] is False
    assert answer["metrics"] == json.loads((tmp_path / "run" / "metrics.json").read_text())


def test_a_relative_out_is_seen_from_the_working_folder_not_from_the_project(ic, tmp_path, monkeypatch):
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = literate-image-classifier\n")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert ic("train", "epochs=1", "hyperparameters=fast", "--out", "here")[0] == 0
    assert (tmp_path / "deep" / "here" / "metrics.json").is_file()
    code, out, _ = ic("train", "epochs=1", "hyperparameters=fast")
    assert code == 0 and out.splitlines()[-1].startswith(f"run {tmp_path}/runs/")


def test_a_stored_configuration_makes_the_same_run(ic, home, first):
    code, out, _ = ic("train", "--config", first / "config.yaml", "--out", home / "again", "--json")
    assert code == 0
    again, before = json.loads(out)["metrics"], json.loads((first / "metrics.json").read_text())
    assert before["model"].pop("choice").startswith("model=auto chose simple_cnn") and "choice" not in again["model"]
    assert {**again, "time": 0} == {**before, "time": 0}


def test_predict_names_each_image_with_class_and_probability(ic, home, first):
    code, out, err = ic("predict", first, home / "zero.png", home / "zero.png")
    assert (code, err) == (0, "")
    assert out.splitlines() == [out.splitlines()[0]] * 2
    name, answer = out.splitlines()[0].split(": ")
    assert name == str(home / "zero.png") and 0 < float(answer.split()[1]) <= 1
    assert ic("predict", first / "classifier", home / "zero.png")[1] == out.splitlines()[0] + "\n"


def test_one_bad_image_does_not_cost_the_answers_for_the_others(ic, home, first, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    code, out, err = ic("predict", first, tmp_path / "text.png", home / "zero.png", tmp_path / "empty.png", tmp_path / "gone.png", "--json")
    assert code == 3
    one_line(err, "3 of 4 images could not be read", "text.png", "empty file", "no such file")
    answer = json.loads(out)
    assert [one["image"] for one in answer["predictions"]] == [str(home / "zero.png")]
    assert set(answer["predictions"][0]) == {"image", "predicted_class", "confidence", "all_probabilities", "out_of_distribution"}
    assert [Path(one["image"]).name for one in answer["errors"]] == ["text.png", "empty.png", "gone.png"]


def test_an_unreadable_image_changes_no_answer(ic, first, tmp_path):
    "Not by a single bit, also where it stands among more images than one batch holds."
    for number in range(70):
        digit(number).save(tmp_path / f"{number:02}.png")
    names = sorted(tmp_path.iterdir())
    good = json.loads(ic("predict", first, *names, "--json")[1])["predictions"]
    code, out, _ = ic("predict", first, names[0], tmp_path / "gone.png", *names[1:], "--json")
    assert code == 3 and len(good) == 70 and json.loads(out)["predictions"] == good


def test_names_that_could_harm_a_terminal_are_shown_quoted(ic, first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a\nb.png", "\x1b[31mred.png", "-dash.png", b"\xff.png".decode("utf-8", "surrogateescape")):
        digit(1).save(tmp_path / "plain.png")
        os.rename(tmp_path / "plain.png", name)
        code, out, err = ic("predict", first, "--", name)
        assert code == 0 and len(out.splitlines()) == 1 and "\x1b" not in out, (name, err)
        code, out, _ = ic("predict", "--json", first, "--", name)
        assert json.loads(out)["predictions"][0]["image"] == name


def test_predict_reads_stdin_and_folders(home, first, ic, tmp_path):
    for number in range(3):
        digit(number).save(tmp_path / f"{number}.png")
    code, out, _ = ic("predict", first, tmp_path)
    assert code == 0 and len(out.splitlines()) == 3
    (tmp_path / "none").mkdir()
    code, _, err = ic("predict", first, tmp_path / "none")
    assert code == 3
    one_line(err, "no images in this folder")
    piped = subprocess.run([IC, "predict", str(first), "-"], input=(home / "zero.png").read_bytes(), capture_output=True)
    assert piped.returncode == 0 and piped.stdout.decode() == "stdin: " + ic("predict", first, home / "zero.png")[1].split(": ")[1]


def test_predict_reads_the_same_files_of_a_folder_as_training(ic, home, first, tmp_path):
    "What the content says, without hidden files, system folders, folders of this library; one line says what was skipped."
    for name in ("a.png", "b.jfif", "c", ".d.png", "@eaDir/e.png", "run/f.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        digit(0).save(tmp_path / name, "PNG")
    own_folder(tmp_path / "other", "run")
    (tmp_path / "other" / "g.png").write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "h.gif").write_bytes(b"GIF89a")
    (tmp_path / "notes.txt").write_text("x")
    code, out, err = ic("predict", first, tmp_path, "--json")
    assert code == 0 and [Path(one["image"]).name for one in json.loads(out)["predictions"]] == ["a.png", "b.jfif", "c", "f.png"]
    assert err.splitlines() == ["warning: skipped: 1 in a format that the classifier does not read (h.gif), 1 no image (notes.txt), "
                                "2 hidden or of the system (.d.png; @eaDir), 1 written by image_classifier (other)"]


def test_predict_never_advises_a_key_that_it_does_not_take(ic, home, first, tmp_path):
    digit(0).save(tmp_path / "a.gif")
    (tmp_path / "b.png").write_bytes(png(20_000, 20_000))
    code, out, err = ic("predict", first, tmp_path / "a.gif", tmp_path / "b.png")
    assert code == 3 and "data." not in err
    one_line(err, "content is GIF, which is not allowed", "400 Mpx exceeds the classifier's limit of 50 Mpx", "convert")
    for image in (tmp_path / "a.gif", (tmp_path / "a.gif").read_bytes(), tmp_path / "b.png", (tmp_path / "b.png").read_bytes()):
        with pytest.raises(DataError) as caught:
            Classifier.load(Path(first) / "classifier").predict(image)
        assert "data." not in str(caught.value)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_a_group_shows_its_commands(ic, flag):
    code, out, err = ic("labels", flag)
    assert (code, err) == (0, "") and "review  List the labels to review" in out and "Usage: ic labels" in out


def test_predict_names_several_classes_and_writes_a_table(ic, home, first, tmp_path):
    (tmp_path / "bad.png").write_text("x")
    table = tmp_path / "sub" / "table.csv"
    code, out, err = ic("predict", first, home / "zero.png", tmp_path / "bad.png", "--top-k", 3, "--csv", table)
    assert code == 3
    one_line(err, "1 of 2 images could not be read")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert list(rows[0]) == ["image", "class", "probability", "class_2", "probability_2", "class_3", "probability_3", "out_of_distribution", "error"]
    assert out.splitlines()[0].split(": ")[1] == ", ".join(
        f"{rows[0][name]} {float(rows[0][share]):.4f}" for name, share in (("class", "probability"), ("class_2", "probability_2"), ("class_3", "probability_3")))
    assert (rows[1]["image"], rows[1]["class"], rows[1]["error"]) == (str(tmp_path / "bad.png"), "", "not an image")
    assert ic("predict", first, home / "zero.png", "--csv", table)[0] == 0  # its own table is replaced
    assert len(table.read_text().splitlines()) == 2
    assert len(ic("predict", first, home / "zero.png", "--top-k", 99)[1].split(": ")[1].split(", ")) == 10


def test_predict_never_replaces_a_file_that_it_did_not_write(ic, home, first, tmp_path):
    (tmp_path / "mine.csv").write_text("file,label\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "elsewhere.csv")
    for target in ("mine.csv", "link.csv", "."):
        code, out, err = ic("predict", first, home / "zero.png", "--csv", tmp_path / target)
        assert (code, out) == (2, "")
        one_line(err, "a file that ic predict did not write would be replaced")
    assert (tmp_path / "mine.csv").read_text() == "file,label\n" and not (tmp_path / "elsewhere.csv").exists()


def test_explain_writes_a_picture_of_each_readable_image_and_names_the_others(ic, home, first, tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    (tmp_path / "deep").mkdir()
    digit(1).save(tmp_path / "deep" / "zero.png")
    names = [tmp_path / "bad.png", home / "zero.png", tmp_path / "deep"]
    code, out, err = ic("explain", first, *names, "--out", tmp_path / "looks", "--json")
    assert code == 3
    one_line(err, "1 of 3 images could not be read", "bad.png")
    answer = json.loads(out)
    assert [Path(one["picture"]).name for one in answer["explanations"]] == ["zero.grad_cam.png", "zero_2.grad_cam.png"]
    for one in answer["explanations"]:
        [same] = json.loads(ic("predict", first, one["image"], "--json")[1])["predictions"]
        assert {key: one[key] for key in same} == same and one["class"] == same["predicted_class"]
        picture = Image.open(one["picture"])
        assert picture.size == (512, 256) and picture.text["Description"].startswith("evidence for ")
    code, out, err = ic("explain", first, home / "zero.png", "--out", tmp_path / "looks", "--method", "occlusion", "--class", "7")
    assert (code, err) == (0, "") and "evidence for 7 " in out and (tmp_path / "looks" / "zero.occlusion.png").is_file()


@pytest.mark.parametrize(("words", "code", "said"), [
    (["--out", "{new}", "--method", "gradcam"], 2, "unknown method gradcam (method). did you mean grad_cam"),
    (["--out", "{new}", "--class", "zero"], 2, "unknown class zero (target)"), (["--out", "{run}"], 2, "a run folder is there"),
    (["--out", "{home}"], 2, "not empty"), ([], 2, "missing option '--out'"),
    (["--out", ""], 2, "an option has an empty value"), (["{home}/gone.png", "--out", "{new}"], 3, "no such file")])
def test_explain_refuses_in_one_line_and_leaves_no_folder(ic, home, first, tmp_path, words, code, said):
    before = sorted(home.rglob("*"))
    image = [] if words[:1] == ["{home}/gone.png"] else [home / "zero.png"]
    found, out, err = ic("explain", first, *image, *(word.format(new=tmp_path / "new", run=first, home=home) for word in words))
    assert (found, out) == (code, "")
    one_line(err, said)
    assert sorted(home.rglob("*")) == before and not (tmp_path / "new").exists()


@pytest.mark.parametrize("words", [["train", "--out", ""], ["estimate", "--out", ""], ["evaluate", "{run}", "--out", ""], ["predict", "{run}", "{home}/zero.png", "--csv", ""],
                                   ["compare", "{run}", "{run}", "--markdown", ""], ["export", "{run}", "--resign", ""], ["report", "--out", ""]])
def test_an_output_named_by_an_unset_variable_is_refused_and_not_left_out(ic, home, first, words):
    before = sorted(home.rglob("*"))
    code, out, err = ic(*(word.format(run=first, home=home) for word in words))
    assert (code, out) == (2, "") and sorted(home.rglob("*")) == before
    one_line(err, "an option has an empty value. give it a value or leave it out")


def test_a_report_of_an_empty_name_is_no_run(ic, first, monkeypatch):
    monkeypatch.chdir(first)  # where config.yaml is
    code, out, err = ic("report", "")
    assert (code, out) == (2, "")
    one_line(err, "no run in ''")


def test_evaluate_gives_the_numbers_of_the_run_and_writes_them(ic, first, tmp_path):
    code, out, err = ic("evaluate", first, "--out", tmp_path / "m.json", "--json")
    assert (code, err) == (0, "")
    stored = json.loads((first / "metrics.json").read_text())["test"]
    assert json.loads(out)["metrics"] == stored == json.loads((tmp_path / "m.json").read_text())
    assert "[" in ic("evaluate", first / "classifier")[1].splitlines()[1], "a table with intervals"


def test_evaluate_checks_its_output_path_first_and_never_replaces_files_of_a_run(ic, first, home):
    for place, line in [(first / "metrics.json", "a file of a run or a classifier would be replaced"),
                        (first / "classifier" / "metrics.json", "a file of a run or a classifier would be replaced"),
                        (home, "a folder is there, a file is needed"), (home / "zero.png" / "m.json", "cannot write to")]:
        before = place.read_bytes() if place.is_file() else None
        code, out, err = ic("evaluate", first, "--out", place)
        assert (code, out) == (2, "")
        one_line(err, line)
        assert before == (place.read_bytes() if place.is_file() else None)


def test_a_classifier_whose_weights_overflow_is_refused_not_the_data(ic, first, home, tmp_path):
    "Each weight is finite, what the network answers is not."
    shutil.copytree(first, tmp_path / "run")
    path = tmp_path / "run" / "classifier" / "model.safetensors"
    tensors = load_tensors(path)
    save_tensors(path, {name: tensor * 1e30 if tensor.is_floating_point() else tensor for name, tensor in tensors.items()})
    write_manifest(path.parent)
    for words in (["predict", tmp_path / "run", home / "zero.png"], ["evaluate", tmp_path / "run"]):
        code, out, err = ic(*words)
        assert (code, out) == (4, "")
        one_line(err, "the model returns non-finite logits")


def digits_folder(root, classes, count=20):
    digits = load_digits()
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in np.flatnonzero(digits.target == int(name[-1]))[:count]:
            digit(number).save(root / name / f"{number}.png")
    return root


def test_every_image_of_other_data_is_measured_as_the_classifier_sees_it(ic, first, tmp_path):
    "All images are used: with a part of them the interval would be wider."
    code, out, err = ic("evaluate", first, f"data={digits_folder(tmp_path / 'd', map(str, range(10)))}", "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["data"] == {"name": "d", "test": 200, "learned_from": 0} and answer["metrics"]["accuracy"]["value"] > 0.3


@pytest.fixture
def own(tmp_path):
    "A run on a folder of images, and that folder."
    pictures = digits_folder(tmp_path / "pictures", "012", 30)
    assert main(["train", f"data={pictures}", "epochs=1", "hyperparameters=fast", "batch_size=16", "--out", str(tmp_path / "own")]) == 0
    return tmp_path / "own", pictures


def test_evaluate_never_uses_the_runs_training_images(ic, own, tmp_path):
    "The run's data are recognized with another device, from another folder, and for a copied classifier."
    run, pictures = own
    stored = json.loads((run / "metrics.json").read_text())["test"]
    shutil.copytree(pictures, tmp_path / "moved")
    shutil.copytree(run / "classifier", tmp_path / "alone")
    for words in ([run, "device=cpu"], [run, f"data={pictures}"], [run, f"data={tmp_path / 'moved'}"], [tmp_path / "alone", f"data={pictures}"]):
        code, out, err = ic("evaluate", *words, "--json")
        assert code == 0, err
        assert json.loads(out)["data"]["test"] == 18 and json.loads(out)["metrics"] == stored, words


@pytest.mark.parametrize("classes, count", [("012", 30), ("0", 90), ("01", 45)])
def test_evaluate_takes_other_images_of_the_same_number(ic, own, tmp_path, classes, count):
    "As many as the run had in all; some of them cannot be split for a training, which an evaluation does not need."
    run, _ = own
    other = digits_folder(tmp_path / "other", classes, count)
    first = next((other / "0").iterdir())
    digit(1).save(first) if classes == "012" else None
    code, out, err = ic("evaluate", run, f"data={other}", "--json")
    assert code == 0, err
    assert json.loads(out)["data"]["test"] == 90


def test_evaluate_measures_with_the_temperature_of_the_classifier(ic, first, tmp_path):
    "The loss and the calibration change, the accuracy does not."
    plain = json.loads(ic("evaluate", first, "--json")[1])["metrics"]
    found = Classifier.load(first)
    found.temperature = 4.0
    shutil.copytree(first, tmp_path / "run", ignore=shutil.ignore_patterns("classifier"))
    found.save(tmp_path / "run" / "classifier")
    code, out, err = ic("evaluate", tmp_path / "run", "--json")
    assert code == 0, err
    soft = json.loads(out)["metrics"]
    assert soft["accuracy"] == plain["accuracy"] and soft["per_class"] == plain["per_class"]
    data = load_data("digits").test
    expected = compute_metrics(np.log(found.probabilities(data.images)), data.targets, found.classes)
    assert soft["loss"]["value"] == pytest.approx(expected["loss"]["value"], abs=1e-6) != plain["loss"]["value"]


def test_evaluate_cuts_by_a_column_of_the_table_and_names_the_nearest_one(ic, first, tmp_path):
    pictures = digits_folder(tmp_path / "d", map(str, range(10)), 6)
    files = sorted(pictures.glob("*/*.png"))
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name},{'pen' if i % 3 else 'brush'}" for i, path in enumerate(files)]
    (tmp_path / "table.csv").write_text("\n".join(["file,label,tool", *rows]))
    words = ["evaluate", first, "data=csv", f"data.root={tmp_path / 'table.csv'}"]
    code, out, err = ic(*words, "--slice", "tool", "--json")
    assert code == 0, err
    found = json.loads(out)["metrics"]["slices"]["tool"]
    assert {name: one["images"] for name, one in found.items()} == {"pen": 40, "brush": 20}
    accuracy = json.loads(out)["metrics"]["accuracy"]["value"]
    assert sum(one["images"] * one["accuracy"]["value"] for one in found.values()) / 60 == pytest.approx(accuracy)
    assert "compared with the others" in ic(*words, "--slice", "tool")[1]
    code, out, err = ic(*words, "--slice", "tol")
    assert code == 3 and "no column tol" in err and "did you mean tool" in err and len(err.splitlines()) == 1
    code, out, err = ic("evaluate", first, "--slice", "tool")
    assert code == 3 and "only data=csv has columns" in err.splitlines()[-1]


def test_evaluate_measures_the_accuracy_on_corrupted_images(ic, first, tmp_path):
    code, out, err = ic("evaluate", first, "--robustness", "--json", "--out", tmp_path / "metrics.json")
    assert code == 0, err
    metrics = json.loads(out)["metrics"]
    found = metrics["robustness"]
    assert metrics == json.loads((tmp_path / "metrics.json").read_text())
    assert (found["images"], found["clean"]["value"]) == (359, metrics["accuracy"]["value"])
    assert list(found["corruptions"]) == ["noise", "blur", "brightness", "contrast", "jpeg"]
    cases = [case for one in found["corruptions"].values() for case in one]
    assert np.mean([case["accuracy"]["value"] for case in cases]) == pytest.approx(found["mean"]["value"])
    for case in cases:
        assert case["difference"]["value"] == pytest.approx(case["accuracy"]["value"] - found["clean"]["value"])
        assert case["difference"]["low"] < case["difference"]["value"] < case["difference"]["high"]
    code, out, err = ic("evaluate", first, "--robustness")
    assert code == 0, err
    rows = [line.split()[:3] for line in out.splitlines() if line.startswith(("noise ", "blur ", "brightness ", "contrast ", "jpeg "))]
    expected = [[name, str(case["severity"]), f"{case['accuracy']['value']:.3f}"] for name, one in found["corruptions"].items() for case in one]
    assert rows == expected and "robustness" not in ic("evaluate", first)[1]


def test_predictions_below_the_threshold_of_the_classifier_are_marked(ic, first, tmp_path):
    images = load_data("digits").test.images[:20]
    found = Classifier.load(first)
    confidence = found.probabilities(images).max(1)
    found.threshold = float(np.sort(confidence)[10])
    found.save(tmp_path / "classifier")
    names = [str(tmp_path / f"{i}.png") for i in range(len(images))]
    for image, name in zip(images, names):
        Image.fromarray(image[0]).save(name)
    code, out, err = ic("predict", tmp_path / "classifier", *names)
    assert code == 0, err
    assert [("let a person look" in line) for line in out.splitlines()] == list(confidence < found.threshold)
    code, out, err = ic("predict", tmp_path / "classifier", *names, "--json")
    assert [one["below_threshold"] for one in json.loads(out)["predictions"]] == list(confidence < found.threshold)
    assert "below_threshold" not in ic("predict", first, names[0], "--json")[1]


def test_config_keys_say_what_presets_set(ic):
    "The default of a key is not what a run on photos has."
    code, out, _ = ic("config", "keys")
    lines = out.splitlines()
    where = next(i for i, line in enumerate(lines) if line.startswith("augment.horizontal_flip"))
    assert "augment=photos sets True" in lines[where + 2]
    assert "any other data" in lines[-1] and "photos for any other data" in lines[-1]
    rows = {row["key"]: row["presets"] for row in json.loads(ic("config", "keys", "--json")[1])["keys"]}
    assert rows["hyperparameters.num_epochs"]["hyperparameters=speed"] == 6 and rows["augment.color_jitter"]["augment=photos"] == 0.2


@pytest.mark.parametrize("words", [[], ["device=cpu"]])
def test_evaluate_refuses_a_run_whose_data_changed(ic, own, words):
    run, pictures = own
    digit(11).save(next((pictures / "0").iterdir()))
    code, _, err = ic("evaluate", run, *words)
    assert code == 3
    one_line(err, "the data has changed since the classifier was made")


def test_evaluate_refuses_unknown_classes(ic, first, tmp_path):
    for number, classes in enumerate([["0", "1", "x1"], [f"x{n}" for n in range(10)]]):
        code, _, err = ic("evaluate", first, f"data={digits_folder(tmp_path / str(number), classes, 10)}")
        assert code == 4
        one_line(err, f"10 classes in the classifier, {len(classes)} in the data, unknown to it: x")


def test_evaluate_accepts_images_of_some_of_the_classes(ic, first, tmp_path):
    code, out, err = ic("evaluate", first, f"data={digits_folder(tmp_path / 'd', ['3', '7'])}", "--json")
    assert code == 0 and err.startswith("warning: there are no images of 0; 1; 2; 4; 5; 6; 8; 9; macro averages go over the other classes")
    metrics = json.loads(out)["metrics"]
    assert [metrics["per_class"][name]["support"] for name in "137"] == [0, 20, 20] and metrics["accuracy"]["value"] > 0.5


def test_the_classifier_of_an_unfinished_run_comes_with_a_warning(ic, first, home, tmp_path):
    shutil.copytree(first, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    for words in (["predict", tmp_path / "run", home / "zero.png"], ["evaluate", tmp_path / "run"]):
        code, out, err = ic(*words)
        assert code == 0 and "is not finished; this is the classifier of its best epoch so far" in err


def test_evaluate_refuses_keys_without_an_effect(ic, first, tmp_path):
    for words, line in [(["lr=1"], "hyperparameters.learning_rate changes nothing"), (["lr=0.001"], "hyperparameters.learning_rate changes nothing"),
                        (["augment.horizontal_flip=true"], "augment.horizontal_flip changes nothing"), (["data=mnist", "model=resnet"], "model changes nothing"),
                        (["data.size=16"], "data.size belongs to the classifier"), (["data.test_fraction=0.5"], "data.test_fraction belongs to the classifier")]:
        code, _, err = ic("evaluate", first, *words)
        assert code == 2
        one_line(err, line, "leave it out")
    shutil.copytree(first / "classifier", tmp_path / "alone")
    code, _, err = ic("evaluate", tmp_path / "alone")
    assert code == 2
    one_line(err, "outside of a run", "data=mnist")
    assert ic("evaluate", tmp_path / "alone", "data=digits")[0] == 0


def test_config_prints_what_a_run_would_store(ic, first):
    code, out, _ = ic("config", "model=simple_cnn", "epochs=2", "hyperparameters=fast")
    assert code == 0 and out == (first / "config.yaml").read_text()
    assert json.loads(ic("config", "--json")[1])["data"]["name"] == "digits"
    assert "hyperparameters: default, fast" in ic("config", "--groups")[1]
    assert "hyperparameters.num_epochs  (default 50; auto or an integer >= 1)" in ic("config", "keys")[1]
    models = json.loads(ic("models", "--json")[1])["models"]
    assert {"simple_cnn", "resnet", "resnet18"} <= set(models)


def test_labels_review_writes_its_lists_and_refuses_bad_data_first(ic, tmp_path):
    pytest.importorskip("cleanlab", reason="pip install 'literate-image-classifier[labels]'")
    pictures = digits_folder(tmp_path / "pictures", "012", 30)
    words = [f"data={pictures}", "epochs=1", "hyperparameters=fast", "batch_size=16", "--out", tmp_path / "labels"]
    code, out, err = ic("labels", "review", *words, "--json")
    assert code == 0 and "networks train on about" in err, err
    answer = json.loads(out)
    assert answer["accepted"] is True and answer["labels"]["examined"] == 90 and list((tmp_path / "labels").iterdir())
    next((pictures / "0").iterdir()).write_bytes(b"")
    code, out, err = ic("labels", "review", *words)
    assert code == 3
    one_line(err, "training would refuse this data", "labels were not reviewed")


def test_sign_and_verify_tell_a_changed_classifier(ic, first, tmp_path):
    pytest.importorskip("model_signing", reason="pip install 'literate-image-classifier[sign]'")
    shutil.copytree(first / "classifier", tmp_path / "copy")
    key = json.loads(ic("keygen", "--out", tmp_path / "keys", "--json")[1])["fingerprint"]
    code, out, _ = ic("sign", tmp_path / "copy", "--key", tmp_path / "keys" / "private.pem", "--json")
    assert code == 0 and json.loads(out)["fingerprint"] == key
    code, out, _ = ic("verify", tmp_path / "copy", "--key", tmp_path / "keys" / "public.pem")
    assert code == 0 and key in out
    (tmp_path / "copy" / "README.md").write_text("changed")
    assert ic("verify", tmp_path / "copy", "--key", tmp_path / "keys" / "public.pem")[0] == 4


def test_the_doctor_finds_a_cache_that_cannot_be_written(ic, tmp_path, monkeypatch):
    code, out, _ = ic("doctor", "--json")
    assert code == 0 and json.loads(out)["ok"] is True
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    code, out, _ = ic("doctor")
    assert code == 1 and [line.split()[1] for line in out.splitlines() if line.startswith("FAIL")] == ["cache"]


# ---------------------------------------------------------------- wrong arguments

@pytest.mark.parametrize("words, fragments", [
    (["trian"], ["unknown command trian", "did you mean train?"]),
    (["labels"], ["unknown command labels", "did you mean labels review?"]),
    (["plan", "data=mnist"], ["unknown command plan", "did you mean estimate?"]),
    (["audit"], ["unknown command audit", "did you mean check?"]),
    (["clean"], ["unknown command clean", "did you mean cache clear?"]),
    (["label", "review"], ["unknown command label", "did you mean labels review?"]),
    (["train", "--plan"], ["unknown option --plan", "did you mean ic estimate?"]),
    (["config", "--keys"], ["unknown option --keys", "did you mean ic config keys?"]),
    (["config", "--models"], ["unknown option --models", "did you mean ic models?"]),
    (["sign", "runs/a", "--new-keys"], ["unknown option --new-keys", "did you mean ic keygen?"]),
    (["check", "--labels"], ["unknown option --labels", "did you mean ic labels review?"]),
    (["train", "augment.flip=true"], ["unknown key augment.flip", "did you mean augment.horizontal_flip?"]),
    (["train", "accumulate=2"], ["unknown key accumulate", "did you mean hyperparameters.gradient_accumulation?"]),
    (["train", "augment.shift=0.1"], ["unknown key augment.shift", "did you mean augment.translate?"]),
    (["train", "data.quarantine=x"], ["unknown key data.quarantine", "did you mean data.exclude?"]),
    (["train", "save_steps=9"], ["unknown key save_steps", "did you mean checkpoint.every_steps?"]),
    (["cache", "mnist"], ["mnist is not KEY=VALUE", "write ic cache clear mnist"]),
    (["sign", "runs/a"], ["missing option '--key'", "ic sign --help"]),
    (["train", "--ouut", "x"], ["unknown option --ouut", "did you mean --out?"]),
    (["train", "--epochs", "3"], ["unknown option --epochs", "write epochs=<value>"]),
    (["train", "--lr=3"], ["unknown option --lr", "write lr=<value>"]),
    (["train", "--out"], ["--out", "--help"]),
    (["predict"], ["missing argument 'RUN_OR_CLASSIFIER'", "ic predict --help"]),
    (["report", "--time-limit", "soon"], ["'soon' is not a valid float", "ic report --help"]),
    (["report", "nowhere"], ["no run in nowhere"]),
])
def test_a_wrong_argument_gets_a_suggestion(ic, words, fragments):
    code, out, err = ic(*words)
    assert (code, out) == (2, "")
    one_line(err, *fragments)


BAD_OVERRIDES = {  # bad_inputs.md, 6b
    "unknown key": (["hyperparameters.learning_rat=1"], ["unknown key hyperparameters.learning_rat", "did you mean hyperparameters.learning_rate"]),
    "text for a number": (["hyperparameters.num_epochs=ten"], ["needs auto or an integer, got 'ten'"]),
    "negative": (["epochs=-1"], ["must be auto or an integer >= 1"]),
    "nan": (["lr=nan"], ["must be", "finite number > 0"]),
    "infinite": (["lr=inf"], ["must be", "finite number > 0"]),
    "too large for a float": (["lr=1e400"], ["must be", "finite number > 0"]),
    "empty batch": (["batch_size=0"], ["must be >= 1"]),
    "batch larger than the data": (["batch_size=1000000000"], ["larger than the training set (1293)"]),
    "unknown network": (["model=resnet999"], ["resnet999", "resnet"]),
    "target": (["model._target_=os.system"], ["_target_ is not accepted", "choose model=<name>"]),
    "new section": (["+x.y=1"], ["x", "top-level keys are"]),
    "environment": (["data.root=${oc.env:AWS_SECRET}"], ["environment values are not read from overrides"]),
    "circle": (["data.root=${data.root}"], ["circular reference data.root -> data.root"]),
    "missing": (["data=folder"], ["data.root is required, e.g. data.root="]),
    "same key twice": (["epochs=3", "hyperparameters.num_epochs=4"], ["hyperparameters.num_epochs"]),
    "fractions": (["data.valid_fraction=0.7", "data.test_fraction=0.7"], ["add up to 1.4"]),
    "no such key=value": (["epochs"], ["epochs"]),
}


@pytest.mark.parametrize("name", BAD_OVERRIDES)
def test_a_bad_override_is_refused_in_one_line(ic, name, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET", "very-secret")
    words, fragments = BAD_OVERRIDES[name]
    code, out, err = ic("train", *words, "--out", tmp_path / "run")
    assert (code, out) == (2, "") and "very-secret" not in err
    one_line(err, *fragments)
    assert not list(tmp_path.glob("run/metrics.json"))


@pytest.mark.parametrize("text, fragments", [
    ("seed: 1\nallow: [leaks\n", ["bad.yaml:"]),
    ("seed: !!python/object/apply:os.system ['touch canary']\n", ["bad.yaml", "tags are not allowed"]),
    ("a0: &a0 [lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)), ["config larger than 1 MB when expanded"]),
    ("seed: 1\nepochs: 3\nseed: 2\n", ["seed", "1", "3"]),
])
def test_a_bad_configuration_file_is_refused_with_its_line(ic, tmp_path, monkeypatch, text, fragments):
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(text)
    code, _, err = ic("train", "--config", "bad.yaml")
    assert code == 2 and not Path("canary").exists()
    one_line(err, *fragments)


def test_an_unavailable_device_is_refused(ic):
    import torch
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    code, _, err = ic("train", "device=cuda")
    assert code == 2
    one_line(err, "no CUDA device", "use device=cpu")


@pytest.mark.parametrize("command", ["train", "report"])
def test_an_output_path_that_cannot_be_written_is_refused_before_the_run(ic, tmp_path, command):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        code, _, err = ic(command, "epochs=1", "--out", place)
        assert code == 2, err
        one_line(err, str(place))


def test_a_run_folder_is_not_mixed_with_another_run(ic, first):
    code, _, err = ic("train", "epochs=2", "hyperparameters=fast", "seed=7", "--out", first)
    assert code == 2
    one_line(err, "seed", "42", "7")


def test_refused_data_and_divergence_have_their_own_codes(ic, tmp_path):
    code, _, err = ic("train", "data=folder", f"data.root={tmp_path}/gone", "--out", tmp_path / "a")
    assert code == 3
    one_line(err, "gone", f"nearest existing parent is {tmp_path}")
    code, _, err = ic("train", "epochs=5", "lr=1e30", "hyperparameters.optimizer=sgd", "hyperparameters.clip_grad_norm=0", "--out", tmp_path / "b")
    assert code == 5
    one_line(err, "is not finite at step")


def test_an_internal_error_says_so_and_debug_shows_the_traceback(ic, monkeypatch, tmp_path):
    from image_classifier.runs import running
    monkeypatch.setattr(running, "write_results", lambda *values: 1 / 0)  # a bug
    words = ("train", "epochs=1", "hyperparameters=fast", "--out", tmp_path / "run")
    code, _, err = ic(*words)
    assert code == 1
    one_line(err, "internal error: ZeroDivisionError: division by zero. run again with --debug and report it")
    code, _, err = ic(*words, "--debug")
    assert code == 1 and "Traceback" in err and "running.py" in err and err.splitlines()[-1].startswith("error: ")


def test_running_out_of_memory_is_not_an_internal_error():
    import torch
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(1 << 60)
    assert to_library_error(MemoryError()).exit_code == 6 and to_library_error(OSError(28, "No space left on device", "/x")).exit_code == 6
    assert to_library_error(caught.value).exit_code in (1, 6)


# ---------------------------------------------------------------- damaged and hostile classifiers (bad_inputs.md, 6d)

def safetensors(header, body=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + body


def change(path, function):
    path.write_bytes(function(path.read_bytes()))


def flip(data):
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def with_nan(data):
    size = struct.unpack("<Q", data[:8])[0]
    tensors = json.loads(data[8:8 + size])
    start = 8 + size + next(entry["data_offsets"][0] for entry in tensors.values() if isinstance(entry, dict) and entry.get("dtype") == "F32")
    return data[:start] + struct.pack("<f", float("nan")) + data[start + 4:]


DAMAGE = {  # name: (damage, whether the manifest is rewritten to match, fragments of the error)
    "no manifest": (lambda folder: (folder / "MANIFEST.json").unlink(), False, ["incomplete (no MANIFEST.json)"]),
    "empty weights": (lambda folder: change(folder / "model.safetensors", lambda data: b""), False, ["model.safetensors is empty"]),
    "truncated": (lambda folder: change(folder / "model.safetensors", lambda data: data[:812]), False, ["812 of ", " bytes"]),
    "one bit": (lambda folder: change(folder / "model.safetensors", flip), False, ["sha256 mismatch in model.safetensors"]),
    "a page of zeros": (lambda folder: change(folder / "model.safetensors", lambda data: data[:8192] + bytes(4096) + data[12288:]), False, ["sha256 mismatch"]),
    "pickle renamed": (lambda folder: change(folder / "model.safetensors", lambda data: pickle.dumps({"a": 1})), True, ["not a safetensors file", "0x80"]),
    "huge header": (lambda folder: change(folder / "model.safetensors", lambda data: struct.pack("<Q", 1 << 63) + data[8:]), True, ["header too large"]),
    "overlap": (lambda folder: change(folder / "model.safetensors", lambda data: safetensors(
        {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"}, bytes(8))), True, ["invalid offset for tensor"]),
    "other network": (lambda folder: change(folder / "model.safetensors", lambda data: safetensors(
        {"strange": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(8))), True, ["strange"]),
    "newer format": (lambda folder: change(folder / "classifier.json", lambda data: data.replace(b'"format": 1', b'"format": 99')), True, ["99", "upgrade image_classifier"]),
    "nan": (lambda folder: change(folder / "model.safetensors", with_nan), True, ["non-finite values in"]),
    "unsafe path": (lambda folder: change(folder / "MANIFEST.json", lambda data: data.replace(b'"README.md"', b'"../../etc/passwd"')), False, ["unsafe path in the manifest"]),
    "detector: truncated": (lambda folder: change(folder / "ood.safetensors", lambda data: data[:100]), False, ["100 of ", "ood.safetensors"]),
    "detector: gone": (lambda folder: (folder / "ood.safetensors").unlink(), True, ["ood.safetensors missing from the manifest"]),
    "detector: pickle": (lambda folder: change(folder / "ood.safetensors", lambda data: pickle.dumps({"a": 1})), True, ["not a safetensors file"]),
    "detector: nan": (lambda folder: change(folder / "ood.safetensors", with_nan), True, ["ood.safetensors", "finite"]),
    "detector: other arrays": (lambda folder: shutil.copy(folder / "model.safetensors", folder / "ood.safetensors"), True,
                               ["not the arrays of an out-of-distribution detector"]),
    "detector: threshold": (lambda folder: change(folder / "classifier.json", lambda data: json.dumps(json.loads(data) | {"ood": {"threshold": -1}}).encode()),
                            True, ["ood must hold a threshold above 0"]),
    "link": (lambda folder: (shutil.move(folder / "model.safetensors", folder.parent / "elsewhere"),
                             (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")), False, ["links are not followed"]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_or_manipulated_classifier_is_refused(ic, home, first, tmp_path, name):
    damage, again, fragments = DAMAGE[name]
    shutil.copytree(first / "classifier", tmp_path / "copy")
    damage(tmp_path / "copy")
    if again:
        write_manifest(tmp_path / "copy")
    code, out, err = ic("predict", tmp_path / "copy", home / "zero.png")
    assert (code, out) == (4, ""), err
    one_line(err, *fragments)


@pytest.mark.parametrize("name, fragments", [("model.pt", ["pickle files are never loaded"]), ("model.pkl", ["pickle files are never loaded"]),
                                             ("model.pt2", ["may hold code"])])
def test_pickles_are_never_opened(ic, home, tmp_path, name, fragments):
    (tmp_path / name).write_bytes(pickle.dumps({"a": 1}))
    code, _, err = ic("predict", tmp_path / name, home / "zero.png")
    assert code == 4
    one_line(err, *fragments)


def test_a_missing_classifier_lists_those_nearby(ic, home, first, tmp_path):
    code, _, err = ic("predict", home / "runs" / "frist", home / "zero.png")
    assert code == 4
    one_line(err, "no such classifier", "did you mean", str(first))
    (tmp_path / "config.yaml").touch()
    code, _, err = ic("evaluate", tmp_path)
    assert code == 4
    one_line(err, "this run has no classifier yet")


# ---------------------------------------------------------------- whole processes

def test_help_and_completion_import_neither_torch_nor_hydra():
    code = """if True:
        import os, sys
        import image_classifier
        from image_classifier.cli import main
        from image_classifier.cli.app import COMMANDS
        from image_classifier.cli.common import complete_override
        for name in ("", *COMMANDS):
            assert main([*name.split(), "--help"]) == 0
        assert main(["trian"]) == 2 and main(["train", "--epochs", "3"]) == 2
        assert complete_override(None, None, "model=")
        heavy = {"torch", "torchvision", "hydra", "omegaconf", "numpy", "matplotlib", "papermill", "fastcore", "nbdev"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Example") == len(COMMANDS) + 1, "each command shows an example"


def test_a_command_imports_only_what_it_needs(first, home):
    "torch's compiler would take as long as torch itself, and drawing another second."
    code = """if True:
        import sys
        from image_classifier.cli import main
        run, image, out, *optimizers = sys.argv[1:]
        drawing, compiler = {"matplotlib", "scipy", "sklearn"}, {"torch._dynamo", "torch._inductor", "sympy"}
        assert main(["predict", run, image]) == 0
        assert not (drawing | compiler) & set(sys.modules), (drawing | compiler) & set(sys.modules)
        assert main(["evaluate", run]) == 0
        assert "matplotlib" not in sys.modules
        words = ["train", "data=digits", "data.size=8", "model=simple_cnn", "epochs=1"]
        for name in optimizers:
            assert main([*words, f"hyperparameters.optimizer={name}", "--out", f"{out}/{name}"]) == 0
        assert not compiler & set(sys.modules), compiler & set(sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code, first, home / "zero.png", home / "light", "adamw", "muon"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_completion_knows_every_network():
    assert {*list_presets()["model"], *model_names()} <= {*complete_value("model", "")} and {*complete_value("model.name", "")} <= {*model_names()}


def test_every_command_that_a_module_defines_is_in_ic():
    modules = [load_module(module_of(path)) for path in NBS.glob("cli/*_commands.ipynb")]
    defined = {name: found for module in modules for name, found in vars(module).items() if isinstance(found, click.Command)}
    assert defined == {f"{name.replace(' ', '_').replace('-', '_')}_command": found for name, found in COMMANDS.items()}


def test_the_package_offers_main_only():
    import image_classifier.cli
    assert image_classifier.cli.__all__ == ["main"]


def test_global_flags_may_stand_before_a_command_of_two_words(ic):
    assert json.loads(ic("--json", "config", "keys")[1]) == json.loads(ic("config", "keys", "--json")[1])


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize("words, found", [
    (["ic", "tr"], ["train"]),
    (["ic", "ca"], ["cache"]),
    (["ic", "cache", "clear", "--js"], ["--json"]),
    (["ic", "train", "--js"], ["--json"]),
    (["ic", "train", "hyperparameters.opt"], ["hyperparameters.optimizer="]),
    (["ic", "train", "model", "=", "simp"], ["simple_cnn"]),
    (["ic", "train", "model", "=", "resnet15"], ["resnet152"]),
    (["ic", "train", "model.name", "=", "vit_b_1"], ["vit_b_16"]),
    (["ic", "train", "data", "=", "di"], ["digits", "dir/"]),
    (["ic", "train", "data.root", "=", "dir/"], ["dir/a\\", "b/", "dir/pets.csv"]),
    (["ic", "train", "data", "=", "dir/a\\ b/"], ["dir/a\\", "b/1.png"]),
    (["ic", "train", "hyperparameters", "="], ["default", "fast", "finetune", "speed"]),
    (["ic", "train", "epochs", "=", "3", "hyperparameters.optimizer", "=", "s"], ["sgd"]),
])
def test_the_tab_key_completes_in_bash(words, found, tmp_path):
    (tmp_path / "dir" / "a b").mkdir(parents=True)
    (tmp_path / "dir" / "a b" / "1.png").touch()
    (tmp_path / "dir" / "pets.csv").touch()
    script = f"""export PATH={Path(IC).parent}:$PATH
        eval "$(_IC_COMPLETE=bash_source ic)"
        compopt() {{ :; }}
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _ic_completion ic
        printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "--norc", "-c", script, "bash", *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == found, done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish_get_a_completion_script(shell):
    script = subprocess.run([IC], env={**os.environ, "_IC_COMPLETE": f"{shell}_source"}, capture_output=True, text=True).stdout
    assert f"_IC_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)
    asked = {**os.environ, "_IC_COMPLETE": f"{shell}_complete", "COMP_WORDS": "ic train model=re", "COMP_CWORD": "model=re" if shell == "fish" else "2"}
    assert "model=resnet" in subprocess.run([IC], env=asked, capture_output=True, text=True).stdout


def test_a_closed_pipe_is_not_an_error():
    done = subprocess.run(["bash", "-c", f"'{IC}' config keys | head -1; echo"], capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.startswith("data.name")


def test_a_stopped_command_says_so_and_can_be_started_again(tmp_path):
    "Ctrl-C gives 130, SIGTERM 143; a report keeps what it had, and its kernel goes with it."
    code = nbformat.v4.new_code_cell
    notebook = nbformat.v4.new_notebook(cells=[code("x: int = 1", metadata={"tags": ["parameters"]}), code("import os, time\nprint(os.getpid())\ntime.sleep(600)")])
    nbformat.write(notebook, tmp_path / "wait.ipynb")
    forever = ["train", "epochs=1000000", "early_stopping_patience=0", "hyperparameters=fast"]
    commands = [(forever, signal.SIGINT, 130), (forever, signal.SIGTERM, 143), (["report", "--notebook", str(tmp_path / "wait.ipynb")], signal.SIGTERM, 143)]
    started = [subprocess.Popen([IC, *words, "--out", str(tmp_path / str(number))], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for number, (words, _, _) in enumerate(commands)]
    for process, (words, stop, code) in zip(started, commands):
        try:
            line = next(line for line in process.stderr if not line.startswith("model=auto chose "))
            process.send_signal(stop)
            rest = process.communicate(timeout=60)[1]
        finally:
            process.kill()
        assert process.returncode == code, (words, line, rest)
        one_line(rest, "interrupted")
    assert "FAILED" in (tmp_path / "2" / "report_failed.html").read_text()
    with pytest.raises(ProcessLookupError):
        os.kill(int(line), 0)  # the kernel's
    assert len((tmp_path / "1" / "history.jsonl").read_text().splitlines()) >= 1
    assert not (tmp_path / "1" / "metrics.json").exists()


# streams

def shell(line, **environment):
    "Run a line of bash with `$IC` as the command; return the exit code, stdout and stderr."
    done = subprocess.run(["bash", "-c", line], env={**os.environ, "IC": IC, **environment}, capture_output=True, text=True, errors="replace", timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("line, code, said", [
    ("$IC predict {run} - <&-", 3, "stdin: empty file"), ("$IC models >&-", 0, ""), ("$IC config epochs=x 2>&-", 2, ""),
    ("$IC predict {run} {zero} <&- 2>&-", 0, ""), ("$IC evaluate {run} | true; exit ${{PIPESTATUS[0]}}", 141, ""),
    ("$IC --help | true; exit ${{PIPESTATUS[0]}}", 141, "")])
def test_closed_streams_and_broken_pipes_end_in_one_line_at_most(first, home, line, code, said):
    found, _, err = shell(line.format(run=first, zero=home / "zero.png"))
    assert (found, len(err.splitlines())) == (code, bool(said)) and said in err, err


def test_files_written_with_closed_streams_hold_nothing_else(ic, first, home):
    "A file opened while stderr is closed gets its number; messages for stderr must not end up in it."
    assert shell(f"$IC evaluate {first} --out {home}/closed.json <&- >&- 2>&-")[0] == 0
    assert json.loads((home / "closed.json").read_text()) == json.loads((first / "metrics.json").read_text())["test"]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_that_cannot_show_a_character_gets_its_code(first, encoding):
    code, out, err = shell(f"$IC evaluate {first}; $IC predict {first} näïve_☃.png", PYTHONIOENCODING=encoding)
    assert "test images of digits" in out and "UnicodeEncodeError" not in err
    assert (code, len(err.splitlines())) == (3, 1) and ("\\u2603" in err or "☃" in err), err  # click makes UTF-8 of ASCII


def test_warnings_as_errors_do_not_end_a_command(first, home):
    Image.new("I;16", (8, 8)).save(home / "sixteen.png")
    for words in (f"evaluate {first}", f"predict {first} {home / 'sixteen.png'}"):
        assert "internal error" not in shell(f"$IC {words}", PYTHONWARNINGS="error")[2]
    (first / "metrics.json").rename(first / "kept.json")  # an unfinished run, of which the command warns
    try:
        code, _, err = shell(f"$IC predict {first} {home / 'zero.png'}", PYTHONWARNINGS="error")
    finally:
        (first / "kept.json").rename(first / "metrics.json")
    assert code == 0 and err.startswith("warning: the run in ")
