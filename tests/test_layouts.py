"What a folder means: which folders are classes and splits, which files are images, and that one line says so."
import os
import shutil
import sys
import unicodedata

import numpy as np
import pytest
from folders import every_id, folder, pets, picture, refused, save, warned  # noqa: F401
from PIL import Image

from image_classifier.cli.app import main
from image_classifier.config import compose, DataConfig, REGISTERED_DATA
from image_classifier.core import ArtifactError, ConfigError, DataError, MARKER, own_folder
from image_classifier.data import archives, load_data, load_evaluation_set, READERS, register_reader
from image_classifier.metrics import align_classes
from image_classifier.runs import train


def tree(root, *folders, count=6, first=0):
    "Save `count` different images in each folder."
    for number, name in enumerate(folders):
        for copy in range(count):
            save(root / name / f"{copy}.png", picture(first + 100 * number + copy))
    return root


def sizes(splits):
    return [len(part) for part in (splits.train, splits.valid, splits.test)]


def tops(dataset):
    "Return the top folders of a data set's images."
    return {id.split("/")[0] for id in dataset.ids}


# splits


@pytest.mark.parametrize("train, valid, test", [
    ("train", "val", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "dev", "EVAL"), ("train", "valid", "holdout"),
    ("training_set", "validation-set", "hold-out"), ("Train Data", "dev.set", "test images")])
def test_splits_are_known_by_their_usual_names(tmp_path, train, valid, test):
    splits = load_data(folder(tree(tmp_path, *(f"{part}/{name}" for part in (train, valid, test) for name in ("cat", "dog")))))
    assert splits.classes == ("cat", "dog") and [tops(part) for part in (splits.train, splits.valid, splits.test)] == [{train}, {valid}, {test}]


def test_a_folder_of_one_class_is_said_to_have_one_class(tmp_path, caplog):
    tree(tmp_path, "cat")
    (tmp_path / "table.csv").write_text("file,label\ncat/0.png,cat\n")
    with caplog.at_level("INFO"):
        for config in (folder(tmp_path), DataConfig(name="csv", root=str(tmp_path / "table.csv"))):
            with pytest.raises(DataError, match="one class|2 classes|two classes|at least"):
                load_data(config)
    assert [line.partition(" in ")[0] for line in caplog.messages if " in " in line] == ["1 class"] * 2


@pytest.mark.parametrize("valid", ["val", "dev"])
def test_valid_folder_without_test_folder_is_the_test_split(tmp_path, valid, caplog):
    tree(tmp_path, *(f"{part}/{name}" for part in ("train", valid) for name in ("cat", "dog")))
    with caplog.at_level("INFO"):
        splits = load_data(folder(tmp_path))
    assert tops(splits.test) == {valid} and tops(splits.valid) == tops(splits.train) == {"train"} and sizes(splits) == [10, 2, 12]
    assert caplog.messages == [f"2 classes in {tmp_path}, splits train, {valid}: {valid} is the test split; validation is 10 % of train"]


def test_empty_folders_next_to_the_splits_do_not_matter(tmp_path):
    tree(tmp_path, "train/cat", "train/dog", "test/cat", "test/dog")
    for name in ("empty", "val/cat", "docs", ".git"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "docs" / "notes.txt").write_text("x")
    (tmp_path / "README").write_text("x")
    splits = load_data(folder(tmp_path))
    assert splits.classes == ("cat", "dog") and sizes(splits) == [10, 2, 12]


def test_folder_of_notes_next_to_class_folders_is_no_class(pets):
    (pets / "docs").mkdir()
    (pets / "docs" / "notes.txt").write_text("x")
    assert load_data(folder(pets)).classes == ("cat", "dog")


def test_class_with_images_in_other_formats_only_is_not_dropped(pets):
    save(pets / "fox" / "1.gif", picture(99))
    (pets / "fox" / "notes.txt").write_text("x")
    refused(pets, "class 'fox' has no images")


def test_splits_inside_the_classes_are_used(tmp_path):
    splits = load_data(folder(tree(tmp_path, *(f"{name}/{part}" for name in ("cat", "dog") for part in ("train", "val", "test")))))
    assert splits.classes == ("cat", "dog") and all("/val/" in id for id in splits.valid.ids) and len(splits.valid) == 12


def test_a_wrapper_inside_each_split_is_skipped(tmp_path):
    "As in archives from Kaggle: training_set/training_set/cats."
    tree(tmp_path, *(f"{part}/{part}/{name}" for part in ("training_set", "test_set") for name in ("cat", "dog")))
    splits = load_data(folder(tmp_path))
    assert splits.classes == ("cat", "dog") and len(splits.test) == 12


def test_only_test_images_are_evaluated_but_not_trained_on(tmp_path):
    tree(tmp_path, "test/cat", "test/dog")
    refused(tmp_path, "no images to train on: all 12 are of test", "ic evaluate")
    found = load_evaluation_set(folder(tmp_path))
    assert found.classes == ("cat", "dog") and len(found) == 12


def test_only_valid_images_are_evaluated(tmp_path):
    tree(tmp_path, "val/cat", "val/dog")
    assert load_evaluation_set(folder(tmp_path)).classes == ("cat", "dog")


# levels


@pytest.mark.parametrize("wrapper", ["Dataset", "archive/photos", "PetImages"])
def test_a_wrapper_folder_is_skipped(pets, tmp_path, wrapper, caplog):
    shutil.copytree(pets, tmp_path / "project" / wrapper)
    (tmp_path / "project" / "results").mkdir()
    with caplog.at_level("INFO"):
        splits = load_data(folder(tmp_path / "project"))
    assert splits.fingerprint == load_data(folder(pets)).fingerprint
    assert caplog.messages[0] == f"2 classes in {tmp_path / 'project' / wrapper}, no splits found: using 72/8/20, stratified"


@pytest.mark.parametrize("wrapper", ["", "Dataset", "a/b"])
def test_a_wrapper_folder_in_an_archive_is_skipped(pets, tmp_path, wrapper):
    shutil.copytree(pets, tmp_path / "project" / wrapper, dirs_exist_ok=True)
    archive = shutil.make_archive(tmp_path / "pets", "zip", tmp_path / "project")
    assert load_data(folder(archive, cache_dir=str(tmp_path / "cache"))).fingerprint == load_data(folder(pets)).fingerprint


def test_splits_in_a_wrapper_folder_are_found(tmp_path):
    splits = load_data(folder(tree(tmp_path, *(f"Dataset/{part}/{name}" for part in ("train", "dev") for name in ("cat", "dog")))))
    assert splits.classes == ("cat", "dog") and len(splits.test) == 12


@pytest.mark.parametrize("folders", [
    ["Dataset/cat", "Dataset/dog", "Examples"], ["Dataset/cat", "Dataset/dog", "Examples/cat", "Examples/dog"],
    ["animals/cat", "animals/dog", "plants/oak"], ["train/animals/cat", "train/plants/oak", "test/animals/cat", "test/plants/oak"]])
def test_folders_of_folders_are_refused_until_the_level_is_given(tmp_path, folders):
    line = refused(tree(tmp_path, *folders), "folders inside of folders", "data.class_level=", "or name one folder")
    level = 1 + line.count("(level 3)")
    splits = load_data(folder(tmp_path, class_level=level))
    assert splits.classes == tuple(sorted({name.split("/")[level - 1] for name in folders}))


def test_a_project_with_splits_inside_one_folder_names_that_folder(tmp_path):
    tree(tmp_path, "Assets", *(f"Dataset/{part}/{name}" for part in ("train", "dev") for name in ("cat", "dog")))
    line = refused(tmp_path, f"name one folder, e.g. data={tmp_path / 'Dataset'}")
    assert "class_level" not in line
    assert load_data(folder(tmp_path / "Dataset")).classes == ("cat", "dog")


def test_the_given_level_makes_nested_folders_the_classes(tmp_path):
    splits = load_data(folder(tree(tmp_path, "animals/cat", "animals/dog", "plants/oak"), class_level=2))
    assert splits.classes == ("cat", "dog", "oak")
    refused(tree(tmp_path, "rocks"), "6 images outside a class folder: rocks/0.png", class_level=2)


# class names


def letters(folder, *names):
    "Save six images of each class in folders and list them in a table."
    tree(folder, *names)
    (folder / "letters.csv").write_text("file,label\n" + "".join(f"{name}/{i}.png,{name}\n" for name in names for i in range(6)))
    return folder


@pytest.mark.parametrize("names, what", [(("Cat", "cat"), "case"), (("STRASSE", "straße"), "case"), (("cat", "cat\u200b"), "invisible characters")])
def test_class_names_that_look_alike_are_refused(tmp_path, names, what):
    letters(tmp_path, *names, "dog")
    for name in ("folder", "csv"):
        line = refused(tmp_path, f"class names that differ only in {what}", name=name)
        assert ("allow=[similar_classes]" in line) == (what == "case")


def test_letters_in_two_cases_are_classes_if_allowed(tmp_path):
    letters(tmp_path / "data", "A", "a", "b")
    shutil.make_archive(str(tmp_path / "letters"), "zip", tmp_path / "data")
    for data in (tmp_path / "data", tmp_path / "data" / "letters.csv", tmp_path / "letters.zip"):
        splits = load_data(data, allow=["similar_classes"])
        assert splits.classes == ("A", "a", "b") and min(splits.train.counts().values()) == 4
        assert load_evaluation_set(data, allow=["similar_classes"]).classes == splits.classes
        with pytest.raises(DataError, match="similar_classes"):
            load_evaluation_set(data)
    config = compose([f"data={tmp_path / 'data'}", "allow=[similar_classes]", "epochs=1", "batch_size=4", "data.size=8"])
    run = train(config, tmp_path / "run")
    assert run.classifier().classes == ("A", "a", "b") and [*run.metrics["test"]["per_class"]] == ["A", "a", "b"]
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert main(["evaluate", str(tmp_path / "run"), f"data={tmp_path / 'data' / 'letters.csv'}"]) == 0  # the run's own allow
    assert main(["evaluate", str(tmp_path / "run" / "classifier"), f"data={tmp_path / 'letters.zip'}", "allow=[similar_classes]"]) == 0
    assert main(["check", f"data={tmp_path / 'letters.zip'}", "allow=[similar_classes]"]) == 0


def test_invisible_characters_in_class_names_cannot_be_allowed(tmp_path):
    refused(letters(tmp_path, "cat", "cat\u200b"), "invisible characters", allow=["similar_classes"])


def test_archive_with_letters_in_two_cases_is_refused_where_the_file_system_would_merge_them(tmp_path, monkeypatch):
    tree(tmp_path / "data", "A", "a")
    archive = shutil.make_archive(str(tmp_path / "letters"), "zip", tmp_path / "data")
    monkeypatch.setattr(archives, "_ignores_case", lambda folder: True)
    with pytest.raises(DataError, match="two entries for one path: a/"):
        load_data(archive, allow=["similar_classes"])


@pytest.mark.parametrize("names", [("cat", "cat "), ("cat", " cat"), ("maine coon", "maine  coon"), ("caf\u00e9", "cafe\u0301"), ("cat", "cat\u00a0")])
def test_class_names_that_differ_in_spaces_or_accents_are_one_class(tmp_path, names):
    splits, lines = warned(folder(tree(tmp_path / "pets", *names, "dog")))
    assert splits.classes == tuple(sorted([unicodedata.normalize("NFC", names[0]), "dog"])) and len(every_id(splits)) == 18
    assert set(splits.train.counts()) == {*splits.classes} and any("are one class" in line for line in lines)
    rows = [f"{folder}/{i}.png,{name}\n" for folder, name in zip(["a", "b", "c"], [*names, "dog"]) for i in range(6)]
    tree(tmp_path, "a", "b", "c")
    (tmp_path / "pets.csv").write_text("file,label\n" + "".join(rows))
    assert load_data(str(tmp_path / "pets.csv")).classes == splits.classes


def test_accents_of_train_and_test_folders_are_the_same_class(tmp_path):
    tree(tmp_path, "train/caf\u00e9", "train/bar", "test/cafe\u0301", "test/bar")
    assert len(load_data(folder(tmp_path)).test) == 12


def test_evaluation_knows_classes_by_the_same_rule(tmp_path):
    tree(tmp_path / "same", "cafe\u0301 ", "bar")
    dataset = align_classes(load_evaluation_set(folder(tmp_path / "same")), ("bar", "caf\u00e9"))
    assert dataset.counts() == {"bar": 6, "caf\u00e9": 6}
    with pytest.raises(ArtifactError, match="unknown to it: Bar"):
        align_classes(load_evaluation_set(folder(tree(tmp_path / "other", "caf\u00e9", "Bar"))), ("bar", "caf\u00e9"))


# files


def test_content_decides_what_an_image_is(pets):
    for name in ("a.jfif", "b", "c.download", "d.gif"):
        save(pets / "cat" / name, picture(len(name) + ord(name[0])), format="JPEG")
    (pets / "cat" / "model.bin").write_bytes(b"\0" * 100)
    assert {"cat/a.jfif", "cat/b", "cat/c.download", "cat/d.gif"} < set(every_id(load_data(folder(pets))))
    assert len(every_id(load_data(folder(pets)))) == 24


@pytest.mark.parametrize("place", ["@eaDir", ".thumbnails", "__MACOSX", "#recycle", "$RECYCLE.BIN", ".ipynb_checkpoints", "@Recycle"])
def test_folders_of_systems_are_no_data(pets, place, caplog):
    save(pets / "cat" / place / "1.png", picture(500))
    save(pets / place / "1.png", picture(501))
    with caplog.at_level("INFO"):
        assert len(every_id(load_data(folder(pets)))) == 20
    assert any(f"2 hidden or of the system ({place}; cat/{place})" in line for line in caplog.messages)


def test_raw_photo_is_no_tiff(pets):
    save(pets / "cat" / "a.dng", picture(500), format="TIFF")
    _, lines = warned(folder(pets, formats=["png", "tiff"]))
    assert any("in a format that data.formats does not name (cat/a.dng)" in line for line in lines)


def test_folders_of_this_library_are_never_data(pets, tmp_path):
    for name, kind in (("runs", "run"), ("cat/cache", "cache")):
        save(own_folder(pets / name, kind) / "chart.png", picture(600 + len(kind)))
    splits = load_data(folder(pets))
    assert splits.classes == ("cat", "dog") and len(every_id(splits)) == 20
    refused(pets / "runs", "a run folder of image_classifier, not images")


@pytest.mark.parametrize("marked", [True, False])
def test_folder_made_for_a_run_trains_once_it_has_class_folders(tmp_path, monkeypatch, marked):
    "`ic train --out pictures/runs/first` makes and marks `pictures`; the runs in it are skipped, with or without a marker."
    monkeypatch.chdir(tmp_path)
    assert main(["train", "epochs=1", "--out", "pictures/runs/first"]) == 0
    refused(tmp_path / "pictures", "an outputs folder of image_classifier, not images")
    for name in ("", "runs", "runs/first") if not marked else ():
        (tmp_path / "pictures" / name / MARKER).unlink()
    tree(tmp_path / "pictures", "cat", "dog")
    (tmp_path / "pictures" / "runs" / "second").mkdir()
    splits = load_data("pictures")
    assert splits.classes == ("cat", "dog") and len(every_id(splits)) == 12


# names and groups


def test_name_of_a_data_set_next_to_a_folder_of_that_name_is_reported(pets, monkeypatch):
    monkeypatch.chdir(pets.parent)
    shutil.copytree(pets, "digits")
    for load in (lambda: compose(["data=digits"]).data.name, lambda: load_data("digits").name):
        with pytest.warns(UserWarning, match="data=digits is the data set of that name, not ./digits; for the latter, write data=./digits"):
            assert load() == "digits"
    assert compose(["data=./digits"]).data.name == "folder"


def test_registered_reader_is_chosen_by_its_name():
    register_reader("my_pets")(lambda config: READERS["digits"](config))
    try:
        assert compose(["data=my_pets"]).data.name == "my_pets"
        assert compose(["data=my_pets", "data.split_seed=7"]).data.split_seed == 7
        assert load_data(compose(["data=my_pets"]).data).fingerprint == load_data("digits").fingerprint
        with pytest.raises(ConfigError, match="did you mean my_pets"):
            compose(["data=my_pet"])
    finally:
        READERS.pop("my_pets")
        REGISTERED_DATA.discard("my_pets")


def test_photos_of_one_person_stay_in_one_split(tmp_path):
    for name in ("cat", "dog"):
        for number in range(20):
            save(tmp_path / name / f"ann{number // 2}-{number}.png", picture(number + 100 * ord(name[0])))
    splits = load_data(folder(tmp_path, group_pattern=r"(ann\d+)-"))
    sides = [set(part.groups) for part in (splits.train, splits.valid, splits.test)]
    assert all(sides) and not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert set.union(*sides) == {f"ann{i}" for i in range(10)}


@pytest.mark.parametrize("name", ["folder", "csv"])
def test_reached_shares_are_said_when_groups_are_kept_whole(tmp_path, caplog, name):
    for number in range(30):
        save(tmp_path / ("cat" if number % 2 else "dog") / f"ann{int(number ** 0.5)}-{number}.png", picture(number))
    rows = [(path.relative_to(tmp_path), path.parent.name, path.name.split("-")[0]) for path in sorted(tmp_path.rglob("*.png"))]
    (tmp_path / "pets.csv").write_text("file,label,who\n" + "".join(f"{file},{label},{who}\n" for file, label, who in rows))
    settings = {"folder": {"group_pattern": r"(ann\d+)-"}, "csv": {"name": "csv", "group_column": "who"}}[name]
    with caplog.at_level("INFO"):
        splits = load_data(DataConfig(**{"name": "folder", "root": str(tmp_path), **settings}))
        shares = "/".join(f"{size / 0.3:.3g}" for size in sizes(splits))
        assert caplog.messages[-1] == f"groups are kept whole: train/valid/test hold {shares} % of the images" and shares != "72/8/20"
        caplog.clear()
        load_data(folder(tmp_path))
    assert not [line for line in caplog.messages if "groups" in line]


def test_group_pattern_that_misses_images_is_refused(pets):
    refused(pets, "10 of 20 images do not match data.group_pattern=cat: dog/0.png", group_pattern="cat")
    refused(tree(pets.parent / "both", "train/cat", "train/dog", "test/cat", "test/dog"), "groups are in more than one split",
            group_pattern=r"\d\.png")


@pytest.mark.parametrize("words, part", [
    (["data.group_pattern=(ann"], "data.group_pattern is no regular expression"),
    (["data.group_pattern=ann", "data.group_column=owner"], "both name groups")])
def test_wrong_group_pattern_is_refused_before_loading(words, part):
    with pytest.raises(ConfigError, match=part):
        compose(words)


def test_every_command_says_what_it_understood_in_one_line(pets, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pets, "project/Dataset")
    (tmp_path / "project" / "Dataset" / "cat" / "notes.txt").write_text("x")
    for words in (["train", "--out", "run"], ["check"], ["estimate"]):
        assert main([*words, "data=project", "data.cache_dir=cache", "epochs=1", "batch_size=4"]) == 0
        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines if line.startswith("skipped")] == ["skipped: 1 no image (Dataset/cat/notes.txt)"]
        if words[0] != "check":
            assert [line for line in lines if "classes in" in line] == ["2 classes in ./project/Dataset, no splits found: using 72/8/20, stratified"]
    shutil.copytree("project/Dataset", "new/test")
    (tmp_path / "new" / "test" / "cat" / "1.png").unlink()
    assert main(["evaluate", "run", "data=new"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["skipped: 1 no image (test/cat/notes.txt)", "2 classes in ./new, using the test split"]
    shutil.copytree("new/test", "both/val")
    shutil.copytree("new/test", "both/train")
    assert main(["evaluate", "run", "data=both"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "2 classes in ./both, using the val split"


# few images


@pytest.mark.parametrize("preset", ["default", "fast", "speed"])
def test_forty_images_are_enough_for_every_preset(tmp_path, monkeypatch, capsys, preset):
    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "pets", "cat", "dog", count=20)
    words = ["data=pets", "data.size=32", f"hyperparameters={preset}", "epochs=2", "data.cache_dir=cache", "--out", "run"]
    assert main(["train", *words]) == 0
    assert "is larger than the training set (28): using batch_size=4" in capsys.readouterr().err
    assert main(["train", *words]) == 0  # the finished run is found again
    assert main(["train", "data=pets", "batch_size=29", "data.cache_dir=cache"]) == 2  # chosen by the user
    assert "batch_size=29 is larger than the training set (28)" in capsys.readouterr().err


# runs inside the data


@pytest.mark.parametrize("out", [[], ["--out", "first"], ["--out", "cat/first"]])
def test_a_folder_stays_usable_after_training_inside_of_it(pets, monkeypatch, capsys, out):
    monkeypatch.chdir(pets)
    words = ["data=.", "data.cache_dir=cache", "epochs=1", "batch_size=4"]
    assert main(["train", *words, *out]) == 0
    before = load_data(folder(pets)).fingerprint
    assert main(["train", *words, "seed=7", *(["--out", "second"] if out else [])]) == 0
    assert main(["check", *words]) == 0 and load_data(folder(pets)).fingerprint == before
    assert load_data(folder(pets)).classes == ("cat", "dog")
    assert main(["check", *words[1:], "data=first" if out == ["--out", "first"] else "data=cache"]) == 3
    assert "of image_classifier, not images" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses such names")
def test_a_class_name_that_is_not_utf8_is_escaped_and_sorted(tmp_path):
    for number, name in enumerate((b"a", b"\xff\xfez")):
        folder = os.path.join(os.fsencode(tmp_path), b"pictures", name)
        os.makedirs(folder)
        for image in range(12):
            rng = np.random.default_rng(100 * number + image)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(os.path.join(folder, b"%d.png" % image))
    splits = load_data(str(tmp_path / "pictures"))
    assert splits.classes == ("\\xff\\xfez", "a") and splits.train.counts()["a"] > 0
