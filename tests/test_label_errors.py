"What a user loses when wrong labels are missed, are judged by networks trained on them, or are exported unsafely."
import csv
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from image_classifier.cli import main
from image_classifier.config import compose
from image_classifier.core import ConfigError, DataError
from image_classifier.data import Dataset, load_data, Preprocess, read_corrections, read_review_table, Splits, statistics, unpack
from image_classifier.quality import (all_images, cross_val_probabilities, cross_validation, FOLDS, label_errors, label_issues,
                                      LabelErrors, LabelIssue, likely_label_errors, plan_folds, review_table, save_review)

pytest.importorskip("cleanlab", reason="pip install 'literate-image-classifier[labels]'")


@pytest.fixture
def one_thread():
    "Run torch on one thread: with small networks, two threads mostly wait for each other."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def with_flips(splits, share, seed=0):
    "Return splits with some labels changed, and the rows of `all_images` they are in."
    rng, everything = np.random.default_rng(seed), all_images(splits)
    flipped = rng.choice(len(everything), round(share * len(everything)), replace=False)
    targets = everything.targets.copy()
    targets[flipped] = (targets[flipped] + rng.integers(1, len(splits.classes), len(flipped))) % len(splits.classes)
    return relabeled(splits, targets), flipped


def relabeled(splits, targets):
    ends = np.cumsum([len(splits.train), len(splits.valid)])
    parts = zip((splits.train, splits.valid, splits.test), np.split(targets, ends))
    train, valid, test = (replace(part, targets=values) for part, values in parts)
    return replace(splits, train=train, valid=valid, test=test)


def cut(dataset, preprocess):
    "Split a data set into 72 % train, 8 % valid, 20 % test."
    ends = [0, int(0.72 * len(dataset)), int(0.8 * len(dataset)), len(dataset)]
    return Splits("cut", *(dataset.select(np.arange(first, last)) for first, last in zip(ends, ends[1:])), preprocess, "0" * 64)


# flipped labels are found


def test_labels_flipped_in_mnist_are_found(data_dir, tmp_path, one_thread):
    "2,000 images, 100 of them mislabeled; three networks of five epochs are enough, the default takes four times as long."
    archive = data_dir / "mnist-idx.tar.gz"
    if not archive.exists():
        pytest.skip("no MNIST among the real data")
    mnist = load_data(compose(["data=mnist", f"data.root={unpack(archive, tmp_path / 'mnist')}"]).data).train
    some = mnist.select(np.random.default_rng(0).permutation(len(mnist))[:2000])
    splits, flipped = with_flips(cut(some, Preprocess(28, 1, "crop", *statistics(some.images))), share=0.05)
    probabilities = cross_val_probabilities(splits, compose(["data=mnist", "model=simple_cnn"]), folds=3, epochs=5)
    errors = likely_label_errors(probabilities, all_images(splits).targets)
    hits = np.isin(errors.indices, flipped)
    print(f"precision {hits.mean():.3f}, recall {hits.sum() / len(flipped):.3f}, {errors}")
    assert hits.mean() >= 0.8 and hits.sum() >= 0.8 * len(flipped)
    assert hits[:40].mean() >= 0.9, "the most suspicious labels are correct"
    restored = some.targets[errors.indices[hits]] == errors.suggested[hits]
    assert restored.mean() >= 0.9, "the suggested class is not the original one"


# no image is predicted by a network trained on it


class Recorder:
    "Replace training and prediction, and record which images each network sees."
    def __init__(self, monkeypatch):
        self.folds = []
        monkeypatch.setattr(cross_validation, "fit", self.fit)
        monkeypatch.setattr(cross_validation, "predict_logits", self.predict)

    def fit(self, model, splits, **arguments):
        self.folds.append([{*splits.train.ids, *splits.valid.ids}])

    def predict(self, model, dataset, preprocess):
        self.folds[-1].append(dataset.ids)
        return torch.zeros(len(dataset), len(dataset.classes))


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


def with_copies(splits):
    "Add the same pictures under other names, in other splits and with other labels."
    train, valid, test = splits.train, splits.valid, splits.test
    def more(dataset, others):
        targets = np.concatenate([dataset.targets, (others.targets + 1) % 10])
        ids = dataset.ids + tuple(f"copy of {id}" for id in others.ids)
        return Dataset(np.concatenate([dataset.images, others.images]), targets, dataset.classes, ids)
    first = range(40)
    return replace(splits, train=more(train, test.select(first)), valid=more(valid, train.select(first)),
                   test=more(test, valid.select(first)))


def test_no_network_predicts_an_image_it_was_trained_on(digits, monkeypatch):
    "Not even under another name, in another split and with another label."
    splits, seen = with_copies(digits), Recorder(monkeypatch)
    cross_val_probabilities(splits, compose(["model=simple_cnn"]))
    assert len(seen.folds) == FOLDS
    for trained, held_out in seen.folds:
        pictures, others = ({id.removeprefix("copy of ") for id in ids} for ids in (trained, held_out))
        assert not pictures & others
        assert not trained & set(splits.test.ids), "a network was trained on a test image"
    held_out = [id for _, ids in seen.folds for id in ids]
    assert sorted(held_out) == sorted(all_images(splits).ids), "each image must be predicted once"


def test_no_network_predicts_a_patient_it_was_trained_on(digits):
    def grouped(part):
        return replace(part, groups=tuple(f"{target} {number % 12}" for number, target in enumerate(part.targets)))
    splits = replace(digits, **{part: grouped(getattr(digits, part)) for part in ("train", "valid", "test")})
    groups = np.array(all_images(splits).groups)
    for fold in plan_folds(splits, 4):
        assert not {*groups[fold.train], *groups[fold.valid]} & {*groups[fold.held_out]}


def scenes(changes):
    "Return splits of 60 blurred random scenes of 24 pixels, each followed by a changed copy in another place."
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((24, 24), Image.Resampling.BICUBIC) for _ in range(60)]
    copies = [changes[number % len(changes)](picture) for number, picture in enumerate(pictures)]
    images = np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in pictures + copies])
    ids = [f"{kind} {number}" for kind in ("scene", "copy") for number in range(60)]
    order = rng.permutation(120)
    made = Dataset(images[order], np.tile(np.arange(60) % 3, 2)[order], ("a", "b", "c"), tuple(ids[row] for row in order))
    return cut(made, Preprocess(24, 3, "crop", *statistics(images)))


COPIES = [lambda image: image.rotate(4, Image.Resampling.BILINEAR), lambda image: image.convert("L").convert("RGB"),
          lambda image: image.point(lambda value: value * 0.8), lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]


def test_no_network_predicts_a_near_duplicate_of_an_image_it_was_trained_on():
    splits = scenes(COPIES)
    ids = np.array(all_images(splits).ids)
    for fold in plan_folds(splits, 5):
        trained, held_out = ({id.split()[1] for id in ids[rows]} for rows in (np.r_[fold.train, fold.valid], fold.held_out))
        assert not trained & held_out


def test_a_film_of_one_scene_can_still_be_divided():
    frame = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)).resize((24, 24), Image.Resampling.BICUBIC)
    rng = np.random.default_rng(1)
    images = np.stack([np.clip(np.asarray(frame).transpose(2, 0, 1) + rng.integers(-2, 3, (3, 24, 24)), 0, 255) for _ in range(60)])
    film = Dataset(images.astype(np.uint8), np.arange(60) % 2, ("a", "b"), tuple(map(str, range(60))))
    folds = plan_folds(cut(film, Preprocess(24, 3, "crop", *statistics(film.images))), 5)
    assert len(folds) == 5 and max(len(fold.held_out) for fold in folds) <= 16


def test_folds_have_equal_shares_of_each_class(digits):
    targets = all_images(digits).targets
    counts = np.array([np.bincount(targets[fold.held_out], minlength=10) for fold in plan_folds(digits, 5)])
    assert np.ptp(counts, axis=0).max() <= 2


def test_plan_depends_on_the_seed_only(digits):
    first, again, other = (plan_folds(digits, 3, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for one, two in zip(first, again) for a, b in zip(one, two))
    assert not np.array_equal(first[0].held_out, other[0].held_out)


def test_too_small_classes_are_refused_before_training(digits, monkeypatch):
    Recorder(monkeypatch)
    def few(part, count):
        return part.select((part.targets != 3) | (np.cumsum(part.targets == 3) <= count))
    two = replace(digits, train=few(digits.train, 1), valid=few(digits.valid, 1), test=few(digits.test, 1))
    cross_val_probabilities(two, compose(["model=simple_cnn"]))
    monkeypatch.setattr(cross_validation, "fit", lambda *_: pytest.fail("a network was trained"))
    one = replace(two, valid=few(digits.valid, 0))
    with pytest.raises(DataError, match=r"too few images of 3 for cross-validation \(digits\). each class needs two"):
        cross_val_probabilities(one, compose(["model=simple_cnn"]))
    for folds in (0, 1, 2.5, True):
        with pytest.raises(ConfigError, match="folds must be a whole number >= 2"):
            cross_val_probabilities(digits, compose(["model=simple_cnn"]), folds=folds)


def test_more_folds_than_images_train_no_useless_network(digits, monkeypatch):
    splits = replace(digits, train=digits.train.select(range(60)), valid=digits.valid.select(range(20)),
                     test=digits.test.select(range(20)))
    seen = Recorder(monkeypatch)
    cross_val_probabilities(splits, compose(["model=simple_cnn", "batch_size=8"]), folds=1000)
    assert len(seen.folds) <= 100 and all(held_out for _, held_out in seen.folds)


# reproducible, without a copy


def test_same_seed_gives_the_same_probabilities(digits, one_thread):
    small = replace(digits, train=digits.train.select(range(200)), valid=digits.valid.select(range(50)),
                    test=digits.test.select(range(50)))
    first, again, other = (cross_val_probabilities(small, compose(["model=simple_cnn", f"seed={seed}"]), folds=2, epochs=1) for seed in (1, 1, 2))
    assert first.shape == (300, 10) and np.allclose(first.sum(1), 1)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_images_are_not_copied(digits):
    "A data set larger than memory is mapped from a file; planning a fold must not read it."
    class Forbidden(np.ndarray):
        def __getitem__(self, key):
            pytest.fail("images were read")
    images = np.zeros((len(digits.train), 1, 512, 512), np.uint8).view(Forbidden)
    splits = replace(digits, train=replace(digits.train, images=images))
    tracemalloc.start()
    part = all_images(replace(splits, valid=splits.train, test=splits.train)).select(range(1000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert part.images.shape == (1000, 1, 512, 512) and peak < 10 << 20


# arbitrary probabilities


@pytest.mark.parametrize("seed", range(40))
def test_any_probabilities_give_a_valid_ranking(seed):
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(2, 200)), int(rng.integers(2, 12))
    probabilities = rng.dirichlet(np.full(k, rng.choice([0.05, 1.0, 20.0])), n)
    targets = rng.integers(0, rng.integers(2, k + 1), n)
    targets[:2] = 0, 1
    if seed % 4 == 0:
        probabilities = np.round(probabilities * 4) / 4 + 1e-9
        probabilities /= probabilities.sum(1, keepdims=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_errors, "MIN_AGREEMENT", 0.0)
        errors = likely_label_errors(probabilities.astype(np.float32), targets)
    assert len(set(errors.indices.tolist())) == len(errors) and errors.examined == n
    assert np.array_equal(errors.given, targets[errors.indices]) and (errors.suggested != errors.given).all()
    assert np.array_equal(errors.suggested, probabilities[errors.indices].argmax(1))
    assert (np.diff(errors.scores) <= 0).all() and ((0 <= errors.scores) & (errors.scores <= 1)).all()
    assert 0 <= errors.agreement <= 1


@pytest.mark.parametrize("probabilities, targets, line", [
    ([[0.5, np.nan], [0.5, 0.5]], [0, 1], "non-finite probabilities at row 0"),
    ([[0.5, np.inf], [0.5, 0.5]], [0, 1], "non-finite probabilities at row 0"),
    ([[0.5, 0.5], [0.5, 0.6]], [0, 1], "row 1 is not a row of probabilities"),
    ([[2.0, -1.0], [0.5, 0.5]], [0, 1], "the least is -1"),
    ([[3.0, -4.0], [0.5, 2.0]], [0, 1], "give the softmax of the logits"),
    ([[0.5, 0.5]] * 2, [0, 2], "target 2 at row 1 is not one of 2 classes"),
    ([[0.5, 0.5]] * 2, [0, -1], "target -1 at row 1"),
    ([[0.5, 0.5]] * 2, [0.0, 1.0], "targets are float64"),
    ([[0.5, 0.5]] * 2, [0], "2 rows of probabilities but 1 targets"),
    ([[1.0], [1.0]], [0, 0], "2 labels of 1 classes"), ([[0.5, 0.5]] * 2, [1, 1], "2 labels of 1 classes"),
    (np.zeros((0, 2)), [], "0 labels of 0 classes"),
    ([0.5, 0.5], [0, 1], r"probabilities have shape \(2,\)"), ([["a", "b"]], [0], "real numbers expected")])
def test_invalid_input_is_refused_in_one_line(probabilities, targets, line):
    with pytest.raises(DataError, match=line):
        likely_label_errors(probabilities, targets)


def test_low_agreement_gives_a_warning():
    rng = np.random.default_rng(0)
    with pytest.warns(UserWarning, match=r"the networks agree with only \d+% of the labels"):
        likely_label_errors(rng.dirichlet(np.ones(5), 200), rng.integers(0, 5, 200))


def test_missing_cleanlab_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.count", None)
    with pytest.raises(ConfigError, match=r"pip install 'literate-image-classifier\[labels\]'"):
        likely_label_errors(np.eye(2), [0, 1])


def test_cleanlab_is_imported_lazily():
    program = "import sys, image_classifier.quality.label_errors; sys.exit('cleanlab' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


# hostile names


HOSTILE = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", " =1", "\t=1", "\r=1", "\x00=1", "＝1", "a\n=1", 'a","=1', "a;=1",
           "\x1b[31mred", "cat\u202egnp", "<script>", "a\udcff", "x" * 10_000, ""]


def test_no_name_becomes_a_formula_or_a_second_row():
    text = review_table([LabelIssue(name, name, name, 0.5) for name in HOSTILE])
    rows = list(csv.reader(text.splitlines()))
    assert rows[0] == ["id", "given", "suggested", "score", "split", "decision"] and len(rows) == len(HOSTILE) + 1
    for row in rows[1:]:
        assert len(row) == 6 and len(set(row[:3])) == 1
        assert row[0].lstrip()[:1] not in {*"=+-@＝＋－＠\t\r"} and (row[0].isprintable() or not row[0])
    text.encode("utf-8")
    assert rows[1][0] == "'" + HOSTILE[0]


def test_no_name_sends_control_characters_to_the_terminal():
    assert all(str(LabelIssue(name, name, name, 0.5)).isprintable() for name in HOSTILE)


def pair_of(ids):
    images = np.arange(2 * 64, dtype=np.uint8).reshape(2, 1, 8, 8)
    dataset = Dataset(images, np.array([0, 1]), ("=cat()", "<dog>"), ids)
    return dataset, LabelErrors(np.array([1, 0]), np.array([1, 0]), np.array([0, 1]), np.array([0.9, 0.8]), 2, 0.5)


def test_folder_has_the_tables_and_the_page(tmp_path):
    dataset, errors = pair_of(("a\udcff.png", "=b.png"))
    found = tmp_path / "new" / "labels"
    issues = save_review(found, dataset, errors, ["test", "train"])
    assert (found / "label_errors.csv").read_text().splitlines()[1:] == ['"\'=b.png","<dog>","\'=cat()","0.900000","train",""']
    assert (found / "label_errors_held_out.csv").read_text().splitlines()[1:] == ['"a\\udcff.png","\'=cat()","<dog>","0.800000","test",""']
    page = (found / "label_errors.html").read_text()
    assert page.count("<img") == 2 and "<dog>" not in page and "&lt;dog&gt;" in page and "script" not in page
    assert [issue.id for issue in issues] == [issue.id for issue in label_issues(dataset, errors)] == ["=b.png", "a\udcff.png"]


def test_decisions_of_both_tables_and_own_columns_survive_the_next_review(tmp_path):
    dataset, errors = pair_of(("a.png", "b.png"))
    save_review(tmp_path, dataset, errors, ["test", "train"])
    tables = [tmp_path / name for name in ("label_errors.csv", "label_errors_held_out.csv")]
    for number, table in enumerate(tables):
        lines = table.read_text().splitlines()
        table.write_text("\n".join([lines[0] + ',"note"', lines[1] + f',"ask {number}"']))
    save_review(tmp_path, dataset, errors.select(errors.indices == 0), ["test", "train"])  # b.png is not suspicious any more
    assert [[(one.id, one.decision, one.more) for one in read_review_table(table)] for table in tables] == [
        [("b.png", "", (("note", "ask 0"),))], [("a.png", "", (("note", "ask 1"),))]]
    for number, table in enumerate(tables):
        table.write_text(table.read_text().replace(f',"","ask {number}"', f',"keep","seen {number}"'))
    decided = read_corrections(tables[0])
    with pytest.raises(ConfigError, match="1 decision would be lost, such as a.png .*data.corrections=[^ ]*[^v],"):
        save_review(tmp_path, dataset, errors, ["test", "train"], decided)
    assert save_review(tmp_path, dataset, errors, ["test", "train"], read_corrections(tmp_path)) == []
    found = [[(one.id, one.decision, one.more) for one in read_corrections(table)] for table in tables]
    assert found == [[("b.png", "keep", (("note", "seen 0"),))], [("a.png", "keep", (("note", "seen 1"),))]]


def test_an_interrupted_review_does_not_promise_to_be_resumed(capsys, monkeypatch):
    def stopped(*_, **more):
        raise KeyboardInterrupt
    monkeypatch.setattr("image_classifier.cli.data_commands.review_labels", stopped)
    assert main(["labels", "review", "data=digits", "--out", "labels"]) == 130
    assert "error: interrupted. nothing was kept. start again with: ic labels review data=digits" in capsys.readouterr().err


@pytest.mark.parametrize("id", ["a\nb", "a\rb", "a\x0bb", "a\x85b", "a\u2028b", "a\n", "#a", '"a"', " a", "a,b;c"])
def test_name_with_a_line_break_is_one_row_that_a_decision_finds_again(id, tmp_path):
    save_review(tmp_path, *pair_of((id, "b")))
    table = tmp_path / "label_errors.csv"
    table.write_text(table.read_text().replace(',""', ',"keep"'))
    assert len(decided := read_corrections(table)) == 2
    assert save_review(tmp_path, *pair_of((id, "b")), decided=decided) == [] and len(read_corrections(table)) == 2


@pytest.mark.parametrize("classes, sharp", [(10, 0.15), (10, 0.3), (3, 0.5)])
def test_most_listed_labels_are_wrong_even_if_the_networks_are_often_wrong(classes, sharp):
    "Networks that know how unsure they are; one label in ten is flipped."
    rng, hits, listed = np.random.default_rng(0), 0, 0
    for _ in range(5):
        beliefs = rng.dirichlet(np.full(classes, sharp), 3000)
        truth = (beliefs.cumsum(1) > rng.random((3000, 1))).argmax(1)
        flip = rng.random(3000) < 0.1
        labels = np.where(flip, (truth + rng.integers(1, classes, 3000)) % classes, truth)
        with pytest.warns(UserWarning, match=r"labels in doubt the first \d+ are listed"):
            errors = likely_label_errors(beliefs, labels)
        hits, listed = hits + flip[errors.indices].sum(), listed + len(errors)
    assert hits / listed >= 0.51 and listed > 100
