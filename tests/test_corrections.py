"What a user loses when reviewed labels are forgotten, applied to the wrong image, or change what is measured without a word."
import csv
import json
import warnings

import numpy as np
import pytest
from folders import pets, refused  # noqa: F401
from PIL import Image

from image_classifier.cli import main
from image_classifier.config import compose, DataConfig
from image_classifier.core import DataError
from image_classifier.data import load_data, load_evaluation_set, read_corrections
from image_classifier.quality import all_images, check_source, LabelIssue, review_table
from image_classifier.runs import compare_runs, train

PARTS = ("train", "valid", "test")


def table(path, *rows, header="id,decision"):
    "Write a table of decisions and return its path."
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def loaded(root, **settings):
    return load_data(DataConfig("folder", str(root), **settings))


def labels_of(splits):
    return {part: dict(zip(getattr(splits, part).ids, np.array(splits.classes)[getattr(splits, part).targets].tolist())) for part in PARTS}


# labels change, nothing else does


def test_corrections_change_only_the_labels_they_name(pets, tmp_path):
    plain = loaded(pets)
    wrong, bad = plain.train.ids[0], plain.train.ids[-1]
    fixed = loaded(pets, corrections=table(tmp_path / "reviewed.csv", f"{wrong},dog", f"{bad},exclude"))
    before, now = labels_of(plain), labels_of(fixed)
    assert now["valid"] == before["valid"] and now["test"] == before["test"]
    assert now["train"] == {id: label for id, label in (before["train"] | {wrong: "dog"}).items() if id != bad}
    pixels = dict(zip(plain.train.ids, plain.train.images))
    assert all(np.array_equal(pixels[id], image) for id, image in zip(fixed.train.ids, fixed.train.images))
    assert np.array_equal(fixed.train.digests, plain.train.digests[:-1])


def test_mapped_images_are_corrected_too(pets, tmp_path):
    reviewed = table(tmp_path / "reviewed.csv", "cat/0.png,exclude", "cat/1.png,dog", "dog/1.png,keep")
    with warnings.catch_warnings(action="ignore"):  # some are test images
        kept, mapped = (loaded(pets, corrections=reviewed, cache_dir=str(tmp_path / "cache"), memory_limit=limit) for limit in (10**9, 0))
    assert kept.fingerprint == mapped.fingerprint and np.array_equal(np.asarray(mapped.train.images), kept.train.images)


def test_a_review_that_keeps_every_label_is_the_same_data(pets, tmp_path):
    reviewed = table(tmp_path / "reviewed.csv", "cat/0.png,keep", "dog/1.png,dog", "dog/2.png,")
    assert loaded(pets, corrections=reviewed).fingerprint == loaded(pets).fingerprint


def test_changed_labels_are_other_data(pets, tmp_path):
    one, two = (loaded(pets, corrections=table(tmp_path / name, f"{loaded(pets).train.ids[0]},{name}")) for name in ("dog", "exclude"))
    assert len({one.fingerprint, two.fingerprint, loaded(pets).fingerprint}) == 3


def test_a_damaged_image_may_be_left_out(pets, tmp_path):
    (pets / "cat" / "3.png").write_bytes(b"")
    refused(pets, "cat/3.png")
    assert "cat/3.png" not in labels_of(loaded(pets, corrections=table(tmp_path / "reviewed.csv", "cat/3.png,exclude")))["train"]


def test_images_on_the_exclude_list_may_be_in_the_corrections(pets, tmp_path):
    (tmp_path / "out.txt").write_text("cat/3.png\n")
    found = loaded(pets, exclude=str(tmp_path / "out.txt"), corrections=table(tmp_path / "reviewed.csv", "cat/3.png,dog"))
    assert "cat/3.png" not in {id for part in labels_of(found).values() for id in part}


def test_the_check_sees_corrected_labels(pets, tmp_path):
    "Two equal images under two labels are a contradiction until one label is corrected."
    (pets / "dog" / "copy.png").write_bytes((pets / "cat" / "0.png").read_bytes())
    plain = DataConfig("folder", str(pets), cache_dir=str(tmp_path / "cache"))
    kinds = {one.kind for one in check_source(plain).findings}
    assert "equal images, different labels" in kinds, kinds
    for decision in ("cat", "exclude"):
        plain.corrections = table(tmp_path / f"{decision}.csv", f"dog/copy.png,{decision}")
        assert "equal images, different labels" not in {one.kind for one in check_source(plain).findings}


# decisions that cannot be applied


@pytest.mark.parametrize("rows, line", [
    (["cat/99.png,dog"], "1 of 1 corrections cannot be applied: cat/99.png: no such image"),
    (["cat/1.png,dgo"], "cat/1.png: no class dgo, did you mean dog?"),
    (["cat/1.png,dog", "cat/2.png,keep", "cat/1.png,keep"], "1 of 3 corrections cannot be applied: cat/1.png: contradictory decisions"),
    (["cat/1.png,exclude", "cat/1.png,cat"], "contradictory decisions"),
    (["cat/1.png,remove"], "no class remove, write keep, exclude or one of cat, dog"), (["cat/1.png,exlude"], "no class exlude, did you mean exclude?"), (["1,dog"], "a spreadsheet must import ids as text"),
    ([f"cat/{n}.png,exclude" for n in range(10)], "after the corrections, class 'cat' has no images"),
    ([f"{name}/{n}.png,exclude" for n in range(10) for name in ("cat", "dog")], "the corrections leave no image in train")])
def test_a_decision_that_cannot_be_applied_is_refused_in_one_line(pets, tmp_path, rows, line):
    with warnings.catch_warnings(action="ignore"):
        refused(pets, line, corrections=table(tmp_path / "reviewed.csv", *rows))


@pytest.mark.parametrize("text, line", [
    ("id,label\na,b\n", "no column decision"), ("", "no header line"), ("id,decision,id\na,b,c\n", "2 columns are called id"),
    ("id,decision\na,b,c\n", "line 2 has 3 fields"), ("\xff\xfe", "not a readable CSV file"),
    ("id,given,split,decision\na,b,train,c\n\na,exclude\na;;;exclude\n", "the header has 4 fields, but line 4 has 2; line 5 has 1"),
    ("id,split,decision\na,exclude\n", "line 2 has 2"), ("sep=;\nid;given;decision\na;keep\n", "line 3 has 2"),
    ('id,decision\na,b\n"c,exclude\nd,exclude\n', "line 3: a quote is not closed"),
    ('id,decision\n"a,exclude\n"b,exclude\n', "not a readable CSV file: line 2")])
def test_a_table_that_cannot_be_read_is_refused_in_one_line(pets, tmp_path, text, line):
    (tmp_path / "reviewed.csv").write_bytes(text.encode("latin-1"))
    refused(pets, line, corrections=str(tmp_path / "reviewed.csv"))


def test_rows_whose_last_cells_a_spreadsheet_left_out_are_not_decided(tmp_path):
    "Excel drops empty cells at the end of rows."
    reviewed = table(tmp_path / "reviewed.csv", "a,cat,train,dog", "b,cat,train", "c,cat,test", header="id,given,split,decision,note")
    assert [(one.id, one.decision) for one in read_corrections(reviewed)] == [("a", "dog")]


def test_the_number_of_decisions_is_logged_even_if_all_labels_are_kept(pets, tmp_path, caplog):
    with caplog.at_level("INFO"):
        loaded(pets, corrections=table(tmp_path / "reviewed.csv", "cat/1.png,keep", "dog/1.png,keep", "dog/2.png,"))
    assert [line for line in caplog.messages if "corrections" in line] == ["corrections: 2 decisions read"]


@pytest.mark.parametrize("path, line", [("no/such.csv", "no such file of corrections"), (".", "no review in this folder"),
                                        ("/dev/zero", "the corrections are not a file"), ("a\0b", "no such file of corrections")])
def test_a_path_that_is_no_file_is_refused_in_one_line(path, line):
    with pytest.raises(DataError, match=line):
        read_corrections(path)


def test_a_label_that_changed_since_the_review_is_not_corrected(pets, tmp_path):
    reviewed = table(tmp_path / "reviewed.csv", "cat/1.png,dog,cat", header="id,given,decision")
    refused(pets, "cat/1.png: reviewed as dog, but the label is cat now", corrections=reviewed)


def test_capitals_of_a_decision_do_not_matter(pets, tmp_path):
    plain, (kept, bad) = loaded(pets), loaded(pets).train.ids[:2]
    found = loaded(pets, corrections=table(tmp_path / "reviewed.csv", f"{kept},KEEP", f"{bad},Exclude"))
    assert {*plain.train.ids} - {*found.train.ids} == {bad} and labels_of(found)["train"][kept] == labels_of(plain)["train"][kept]


def test_a_class_called_like_a_decision_is_refused_before_the_review(tmp_path, capsys, monkeypatch):
    pytest.importorskip("cleanlab", reason="pip install 'literate-image-classifier[labels]'")
    monkeypatch.setattr("image_classifier.quality.cross_val_probabilities", lambda *_, **more: pytest.fail("networks were trained"))
    for number in range(20):
        path = tmp_path / "pets" / ("exclude" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(path)
    with warnings.catch_warnings(action="ignore"):
        assert main(["labels", "review", f"data={tmp_path}/pets", "--out", str(tmp_path / "labels")]) == 3
    assert "a class is called exclude, as is a decision about labels" in capsys.readouterr().err


@pytest.mark.parametrize("start", [b"PK\3\4", b"\xd0\xcf\x11\xe0"])
def test_a_spreadsheet_is_to_be_saved_as_csv(pets, tmp_path, start):
    (tmp_path / "reviewed.xlsx").write_bytes(start + b"\0" * 100)
    refused(pets, "a spreadsheet, not a CSV file", "save it as CSV", corrections=str(tmp_path / "reviewed.xlsx"))


def test_a_folder_means_both_tables_of_a_review(pets, tmp_path):
    rows = [f"{part.ids[0]},exclude" for part in (loaded(pets).train, loaded(pets).test)]
    table(tmp_path / "label_errors.csv", rows[0])
    table(tmp_path / "label_errors_held_out.csv", rows[1])
    with warnings.catch_warnings(action="ignore"):
        both, first = loaded(pets, corrections=str(tmp_path)), loaded(pets, corrections=str(tmp_path / "label_errors.csv"))
    assert (len(both.train), len(both.test)) == (len(first.train), len(first.test) - 1) == (len(loaded(pets).train) - 1, len(loaded(pets).test) - 1)


def test_a_class_called_like_a_decision_is_ambiguous(tmp_path):
    for number in range(20):
        path = tmp_path / "pets" / ("keep" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(path)
    refused(tmp_path / "pets", "a class is called keep too", corrections=table(tmp_path / "reviewed.csv", "dog/2.png,keep"))


def test_a_table_without_decisions_gets_a_warning(pets, tmp_path):
    with pytest.warns(UserWarning, match="no decision in the corrections yet"):
        loaded(pets, corrections=table(tmp_path / "reviewed.csv", "cat/1.png,"))


@pytest.mark.parametrize("start, separator, end", [("", ",", "\n"), ("sep=;\r\n", ";", "\r\n"), ("\ufeff", ";", "\r\n"), ("", "\t", "\n")])
def test_a_table_that_a_spreadsheet_saved_is_read(pets, tmp_path, start, separator, end):
    rows = [["id", "given", "suggested", "score", "split", "decision"], ["dog/1.png", "dog", "cat", "0,95", "train", " cat "], ["dog/2.png", "dog", "cat", "0,9", "train", ""]]
    text = start + end.join(separator.join(f'"{cell}"' if separator in cell else cell for cell in row) for row in rows) + end
    (tmp_path / "reviewed.csv").write_bytes(text.encode("utf-8"))
    assert [(one.id, one.decision) for one in read_corrections(tmp_path / "reviewed.csv")] == [("dog/1.png", "cat")]


@pytest.mark.parametrize("name", ["=1.png", "'=1.png", "+a.png", "a\nb.png", "zoë.png", " a.png", "a,b.png", "\udcff.png"])
def test_an_image_of_any_name_is_found_by_its_row(pets, tmp_path, name):
    (pets / "cat" / "0.png").rename(pets / "cat" / name)
    id = f"cat/{name}"
    written = review_table([LabelIssue(id, "cat", "dog", 0.9)]).replace(',""', ',"dog"')
    (tmp_path / "reviewed.csv").write_text(written)
    with warnings.catch_warnings(action="ignore"):
        found = labels_of(load_data(DataConfig("folder", str(pets), corrections=str(tmp_path / "reviewed.csv")), allow=["empty_class"]))
    assert {id: label for part in found.values() for id, label in part.items()}[id] == "dog"


# test images


def test_a_corrected_test_label_is_never_silent(pets, tmp_path):
    tested = loaded(pets).test.ids[0]
    for decision in ("dog" if tested.startswith("cat") else "cat", "exclude"):
        reviewed = table(tmp_path / "reviewed.csv", f"{tested},{decision}")
        with pytest.warns(UserWarning, match=rf"corrections change 1 of 4 test images, so this test is another one than without them: {tested}"):
            loaded(pets, corrections=reviewed)
    with pytest.warns(UserWarning, match="corrections change 1 of 20 test images"):
        load_evaluation_set(DataConfig("folder", str(pets), corrections=reviewed))


def write_flipped(place, share):
    "Write digits as a table, 700 to train on, with a share of the training labels flipped, and the true labels as corrections."
    everything = all_images(load_data("digits"))
    parts = np.repeat(PARTS, [700, 100, len(everything) - 800])[np.random.default_rng(0).permutation(len(everything))]
    rng, rows, truth = np.random.default_rng(0), [["file", "label", "split"]], [["id", "given", "decision"]]
    chosen = rng.choice(np.flatnonzero(parts == "train"), round(700 * share), replace=False)
    for row, (id, image, target) in enumerate(zip(everything.ids, np.asarray(everything.images), everything.targets.tolist())):
        Image.fromarray(image[0]).save(place / f"d{id}.png", compress_level=1)
        label = (target + int(rng.integers(1, 10))) % 10 if row in chosen else target
        rows.append([f"d{id}.png", label, parts[row]])
        truth += [[f"d{id}.png", label, target]] if row in chosen else []
    for name, table in (("data.csv", rows), ("truth.csv", truth)):
        with open(place / name, "w", newline="") as file:
            csv.writer(file).writerows(table)
    return place


@pytest.fixture(scope="module")
def flipped(tmp_path_factory):
    "One in ten training labels is flipped."
    return write_flipped(tmp_path_factory.mktemp("flipped"), 0.1)


def test_the_effect_of_corrections_is_compared_on_the_same_test_images(tmp_path):
    "Half of the training labels are flipped, so that few epochs show the effect."
    place = write_flipped(tmp_path, 0.5)
    words = ["data=csv", f"data.root={place}/data.csv", "data.split_column=split", "lr=0.003", "batch_size=32", "epochs=4",
             f"data.cache_dir={tmp_path}/cache"]
    with warnings.catch_warnings(action="ignore"):
        for name, more in (("noisy", []), ("corrected", [f"data.corrections={place}/truth.csv"])):
            train(compose([*words, *more]), tmp_path / name)
    found = compare_runs(tmp_path / "noisy", tmp_path / "corrected")
    accuracy = found.pairs[0]["accuracy"]
    assert {key for key, _ in found.settings} >= {"data.corrections", "data fingerprint"}
    assert accuracy.difference.low > 0 and accuracy.p_value < 0.05
    with pytest.raises(DataError, match="the data has changed since the run was made: the images are the same, but their labels"):
        train(compose([*words]), tmp_path / "corrected")


def test_corrections_belong_to_the_data_of_their_run(pets, tmp_path, capsys):
    "Other data is evaluated without them; changed decisions are named as the cause of changed data."
    first, second = loaded(pets).train.ids[:2]
    words = [f"data={pets}", f"data.corrections={table(tmp_path / 'reviewed.csv', f'{first},exclude')}", "epochs=1", "hyperparameters=fast",
             f"data.cache_dir={tmp_path}/cache", "--out", str(tmp_path / "run")]
    (tmp_path / "new" / "cat").mkdir(parents=True), (tmp_path / "new" / "dog").mkdir()
    for number in range(4):
        Image.new("RGB", (8, 8), (number, 9, 9)).save(tmp_path / "new" / ("cat" if number % 2 else "dog") / f"new{number}.png")
    with warnings.catch_warnings(action="ignore"):
        assert main(["train", *words]) == 0 and main(["evaluate", str(tmp_path / "run"), f"data={tmp_path}/new"]) == 0
        table(tmp_path / "reviewed.csv", f"{first},exclude", f"{second},exclude")
        assert main(["train", *words]) == 3
    assert "1 images are missing" in (error := capsys.readouterr().err) and "the decisions of data.corrections count as data" in error


def test_runs_with_other_test_labels_are_not_compared(flipped, tmp_path):
    words = ["data=csv", f"data.root={flipped}/data.csv", "data.split_column=split", "hyperparameters=fast", "epochs=1",
             f"data.cache_dir={tmp_path}/cache"]
    tested = [line.split(",") for line in (flipped / "data.csv").read_text().split() if line.endswith(",test")]
    rows = [f"{id},{(int(label) + 1) % 10}" for id, label, _ in tested[:3]]
    with warnings.catch_warnings(action="ignore"):
        for name, more in (("a", []), ("b", [f"data.corrections={table(tmp_path / 'reviewed.csv', *rows)}"])):
            train(compose([*words, *more]), tmp_path / name)
    with pytest.raises(DataError, match="3 test images have another label"):
        compare_runs(tmp_path / "a", tmp_path / "b")


# reviews


@pytest.mark.filterwarnings("ignore")
def test_decisions_survive_the_next_review_and_are_not_asked_again(flipped, tmp_path, capsys):
    pytest.importorskip("cleanlab", reason="pip install 'literate-image-classifier[labels]'")
    folder = tmp_path / "labels"
    words = ["labels", "review", "data=csv", f"data.root={flipped}/data.csv", "data.split_column=split", "hyperparameters=fast", "epochs=2",
             f"data.cache_dir={tmp_path}/cache", "--out", str(folder), "--json"]
    assert main(words) == 0
    first = json.loads(capsys.readouterr().out)["labels"]
    assert {one["split"] for one in first["suspects"]} & {"valid", "test"} and first["decided"] == 0
    reviewed = folder / "label_errors.csv"
    with open(reviewed, newline="") as file:
        header, *rows = csv.reader(file)
    assert {row[4] for row in rows} == {"train"}, "validation and test images are in the other table"
    truth = dict(line.split(",")[::2] for line in (flipped / "truth.csv").read_text().split()[1:])
    for row in rows[:8]:
        row[-1] = truth.get(row[0], "keep")
    with open(reviewed, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    edited = reviewed.read_bytes()
    assert main(words) == 2, "the decisions would be lost"
    assert "8 decisions would be lost" in capsys.readouterr().err and reviewed.read_bytes() == edited
    assert main([*words, f"data.corrections={reviewed}"]) == 0
    second = json.loads(capsys.readouterr().out)["labels"]
    decided = {row[0]: row[-1] for row in rows[:8]}
    assert {one.id: one.decision for one in read_corrections(reviewed)} == decided and second["decided"] == 8
    assert not decided.keys() & {one["id"] for one in second["suspects"]}


def test_more_than_half_of_the_suspected_labels_are_wrong(flipped, tmp_path, capsys):
    "One label in ten of the training split is flipped; more than half of the suspected training labels are."
    pytest.importorskip("cleanlab", reason="pip install 'literate-image-classifier[labels]'")
    words = ["labels", "review", "data=csv", f"data.root={flipped}/data.csv", "data.split_column=split", "lr=0.003", "batch_size=32", "epochs=6",
             f"data.cache_dir={tmp_path}/cache", "--out", str(tmp_path / "labels"), "--json"]
    with warnings.catch_warnings(action="ignore"):
        assert main(words) == 0
    suspects = [one["id"] for one in json.loads(capsys.readouterr().out)["labels"]["suspects"] if one["split"] == "train"]
    truth = {line.split(",")[0] for line in (flipped / "truth.csv").read_text().split()[1:]}
    hits = len(truth & {*suspects})
    print(f"{len(suspects)} suspects, precision {hits / len(suspects):.3f}, recall {hits / len(truth):.3f}")
    assert hits / len(suspects) >= 0.51


def test_a_refused_review_leaves_the_folder_as_it_is(pets, tmp_path, capsys):
    pytest.importorskip("cleanlab", reason="pip install 'literate-image-classifier[labels]'")
    reviewed = table(tmp_path / "reviewed.csv", "cat/99.png,dog")
    assert main(["labels", "review", f"data={pets}", f"data.corrections={reviewed}", "--out", str(tmp_path / "labels")]) == 3
    assert "cat/99.png: no such image" in capsys.readouterr().err and not (tmp_path / "labels").exists()
