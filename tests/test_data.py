"Honest splits, real data sets, one fingerprint, and batches without a trace of augmentation."
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from folders import every_id, folder, pets, picture, refused, save, warned  # noqa: F401

from image_classifier.config import DataConfig
from image_classifier.core import DataError
from image_classifier.data import batches, connected_groups, File, hash_priorities, IndexedArrayView, load_data, load_evaluation_set, pixel_digests, stratified_sample
from image_classifier.data.source_images import _reader

REAL = Path(os.environ.get("IMAGE_CLASSIFIER_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data"))


def real(name):
    "A file of the real data, or a skip that says what is missing."
    if not (REAL / name).is_file():
        pytest.skip(f"no {name}; set IMAGE_CLASSIFIER_DATA to the folder that holds it")
    return REAL / name


# size and channels


@pytest.mark.parametrize("side, expected", [(64, 64), (65, 224)])
def test_auto_size_keeps_small_squares(tmp_path, side, expected):
    for number in range(6):
        save(tmp_path / "ab"[number % 2] / f"{number}.png", picture(number, side))
    assert load_data(folder(tmp_path)).preprocess.size == expected


def test_auto_channels_are_gray_only_when_all_are(pets):
    for path in [*pets.glob("*/*.png")]:
        Image.open(path).convert("L").save(path)
    assert load_data(folder(pets)).train.images.shape[1] == 1
    save(pets / "cat" / "color.png", picture(99))
    assert load_data(folder(pets)).train.images.shape[1] == 3


def test_folder_gives_the_same_pixels_as_preprocess(pets):
    splits = load_data(folder(pets, size=5, channels=1, resize="pad"))
    for image, id in zip(splits.test.images, splits.test.ids):
        assert np.array_equal(image, splits.preprocess.pixels((pets / id).read_bytes()))


def test_digits_can_be_enlarged_and_colored():
    splits = load_data(DataConfig(size=12, channels=3))
    assert splits.train.images.shape[1:] == (3, 12, 12) and splits.preprocess.mean[0] == splits.preprocess.mean[2]


# splits


@pytest.mark.parametrize("seed", range(5))
def test_fractions_are_honoured_within_one_per_class(seed):
    targets = np.random.default_rng(seed).integers(0, 7, 500)
    rows = np.arange(500)
    chosen = stratified_sample(targets, rows, hash_priorities([f"{row}" for row in rows], seed), 0.13)
    wanted = np.bincount(targets) * 0.13
    assert (np.abs(np.bincount(targets[chosen], minlength=7) - wanted) <= 1).all()


@pytest.mark.parametrize("seed", range(5))
def test_groups_of_mixed_classes_stay_whole_and_near_the_fraction(seed):
    random = np.random.default_rng(seed)
    targets, groups = random.integers(0, 3, 600), random.integers(0, 120, 600)
    units = connected_groups(groups)
    chosen = stratified_sample(targets, units, hash_priorities([f"{row}" for row in range(600)], seed)[units], 0.2)
    assert not set(groups[chosen]) & set(groups[~chosen])
    assert (np.abs(np.bincount(targets[chosen]) - np.bincount(targets) * 0.2) <= 5).all()


def test_split_depends_on_names_and_seed_not_on_the_order_on_disk(pets, tmp_path):
    files = sorted(pets.glob("*/*.png"))
    for path in reversed(files):  # a copy, made in another order, elsewhere
        (tmp_path / "copy" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "copy" / path.parent.name)
    first, second = load_data(folder(pets)), load_data(folder(tmp_path / "copy"))
    assert first.test.ids == second.test.ids and first.fingerprint == second.fingerprint
    assert load_data(folder(pets, split_seed=7)).test.ids != first.test.ids


def test_equal_pixels_in_other_files_stay_on_one_side(pets):
    for number in range(5):  # the same pixels in another format, under another name and even another label
        save(pets / "dog" / f"copy{number}.bmp", Image.open(pets / "cat" / f"{number}.png"))
    splits = load_data(folder(pets))
    sides = [{digest.tobytes() for digest in pixel_digests(part.images)} for part in (splits.train, splits.valid, splits.test)]
    assert len(set().union(*sides)) == 20 == sum(map(len, sides))


def test_test_set_of_the_source_is_the_same_whatever_the_seed(tmp_path):
    for number in range(30):
        save(tmp_path / ("test" if number % 3 == 0 else "train") / "ab"[number % 2] / f"{number}.png", picture(number))
    one, two = (load_data(folder(tmp_path, split_seed=seed)) for seed in (1, 2))
    assert one.test.ids == two.test.ids and one.valid.ids != two.valid.ids


def test_images_in_two_of_the_sources_own_splits_are_refused_unless_allowed(pets, tmp_path):
    for part in ("train", "test"):
        shutil.copytree(pets, tmp_path / "both" / part)
    line = refused(tmp_path / "both", "20 of 20 test images are also in an earlier split: test/cat/0.png = train/cat/0.png; ", "; and 15 more", "allow=[leaks]")
    assert line.count(" = ") == 5
    _, lines = warned(folder(tmp_path / "both"), ["leaks"])
    assert len(lines) == 1 and lines[0].startswith("20 of 20 test images are also in an earlier split: ")
    for number in range(4):  # a validation set of its own, with one picture of train
        save(tmp_path / "both" / "valid" / "cat" / f"{number}.png", picture(number if number == 3 else 200 + number))
        save(tmp_path / "both" / "valid" / "dog" / f"{number}.png", picture(300 + number))
    shutil.rmtree(tmp_path / "both" / "test" / "dog")
    shutil.rmtree(tmp_path / "both" / "test" / "cat")
    for name in ("cat", "dog"):
        save(tmp_path / "both" / "test" / name / "new.png", picture(400 + len(name) + ord(name[0])))
    mapped = {"memory_limit": 0, "cache_dir": str(tmp_path / "cache")}
    _, lines = warned(folder(tmp_path / "both", **mapped), ["leaks"])
    assert lines == ["1 of 8 valid images are also in an earlier split: valid/cat/3.png = train/cat/3.png"]
    assert warned(folder(tmp_path / "both", **mapped), ["leaks"])[1] == lines  # each time
    refused(tmp_path / "both", "1 of 8 valid images", **mapped)
    assert warned(folder(pets))[1] == []


def test_statistics_come_from_train_alone(pets):
    splits = load_data(folder(pets))
    for channel in range(3):
        assert splits.preprocess.mean[channel] == pytest.approx(splits.train.images[:, channel].mean() / 255, abs=1e-12)
        assert splits.preprocess.std[channel] == pytest.approx(splits.train.images[:, channel].std() / 255, abs=1e-12)


# fingerprint


def test_fingerprint_changes_with_one_pixel_one_label_or_the_split(pets):
    before = load_data(folder(pets)).fingerprint
    assert load_data(folder(pets)).fingerprint == before
    assert load_data(folder(pets, valid_fraction=0.3)).fingerprint != before
    assert load_data(folder(pets, size=4)).fingerprint != before
    image = Image.open(pets / "cat" / "3.png")
    image.load()
    image.putpixel((0, 0), tuple(255 - value for value in image.getpixel((0, 0))))
    original = (pets / "cat" / "3.png").read_bytes()
    image.save(pets / "cat" / "3.png")
    assert load_data(folder(pets)).fingerprint != before
    (pets / "cat" / "3.png").write_bytes(original)
    assert load_data(folder(pets)).fingerprint == before
    (pets / "cat" / "3.png").rename(pets / "dog" / "33.png")
    assert load_data(folder(pets)).fingerprint != before


def test_fingerprint_of_digits_is_the_same_on_every_machine():
    assert load_data("digits").fingerprint == "564810373c65b8381db0720ddad6005533e0053dc8db39b890e4cbbe8ec0ed39"


# the mapped file


def test_images_beyond_the_memory_limit_are_mapped_and_found_again(pets, tmp_path):
    (pets / "cat" / "0.png").write_bytes(b"")
    mapped = folder(pets, memory_limit=0, cache_dir=str(tmp_path / "cache"))
    splits, lines = warned(mapped, ["corrupt"])
    held, _ = warned(folder(pets), ["corrupt"])
    assert isinstance(splits.train.images, IndexedArrayView) and isinstance(held.train.images, np.ndarray)
    assert splits.fingerprint == held.fingerprint and np.array_equal(splits.valid.images, held.valid.images)
    made = [(path, path.stat().st_mtime_ns) for path in (tmp_path / "cache").rglob("*.bin")]
    again, again_lines = warned(mapped, ["corrupt"])
    assert again.fingerprint == splits.fingerprint and again_lines == lines
    assert len(made) == 3 and made == [(path, path.stat().st_mtime_ns) for path in (tmp_path / "cache").rglob("*.bin")]
    inputs = [batch.inputs for batch in batches(splits.train, splits.preprocess, 4)]
    assert sum(map(len, inputs)) == len(splits.train)


def test_changed_file_is_not_taken_from_the_cache(pets, tmp_path):
    mapped = folder(pets, memory_limit=0, cache_dir=str(tmp_path / "cache"))
    before = load_data(mapped).fingerprint
    save(pets / "cat" / "3.png", picture(777))
    assert load_data(mapped).fingerprint != before


def test_another_folders_pixels_are_never_used(pets, tmp_path):
    cache = str(tmp_path / "cache")
    other = tmp_path / "other"
    for number, path in enumerate(sorted(pets.glob("*/*.png"))):  # equal names, sizes and dates, other pixels
        (other / path.parent.name).mkdir(parents=True, exist_ok=True)
        for root, shade in ((pets, number), (other, 100 + number)):
            place = root / path.parent.name / path.name
            Image.new("RGB", (8, 8), (shade, shade, shade)).save(place.with_suffix(".bmp"))
            os.utime(place.with_suffix(".bmp"), ns=(10**18, 10**18))
        path.unlink()
    first, second = (load_data(folder(root, memory_limit=0, cache_dir=cache)) for root in (pets, other))
    assert np.max(first.train.images) < 100 <= np.min(second.train.images)
    (tmp_path / "now").symlink_to(pets)
    assert load_data(folder(tmp_path / "now", memory_limit=0, cache_dir=cache)).fingerprint == first.fingerprint
    (tmp_path / "now").unlink()
    (tmp_path / "now").symlink_to(other)
    assert load_data(folder(tmp_path / "now", memory_limit=0, cache_dir=cache)).fingerprint == second.fingerprint
    assert len([*(tmp_path / "cache").rglob("images.bin")]) == 2


def test_bytes_read_for_the_header_are_kept_for_the_pixels(tmp_path):
    path = tmp_path / "note.txt"
    path.write_bytes(b"seven..")
    read = _reader([File(str(path), "note.txt", 7, path.stat().st_mtime_ns)], limit=100)
    assert read(0) == b"seven.."
    path.unlink()
    assert read(0) == b"seven.."


# batches


def test_batches_visit_the_order_they_are_given():
    splits = load_data("digits")
    order = np.random.default_rng(0).permutation(len(splits.train))
    seen = [*batches(splits.train, splits.preprocess, 100, order=order)]
    assert np.concatenate([batch.indices for batch in seen]).tolist() == order.tolist()
    assert np.concatenate([batch.targets for batch in seen]).tolist() == splits.train.targets[order].tolist()
    expected = splits.preprocess.normalize(splits.train.images[order])
    assert np.array_equal(np.concatenate([batch.inputs for batch in seen]), expected)


def test_batches_that_are_kept_stay_as_they_were():
    splits = load_data("digits")
    kept = [*batches(splits.train, splits.preprocess, 100)]
    passing = [batch.inputs.clone() for batch in batches(splits.train, splits.preprocess, 100, reuse=True)]
    assert all((batch.inputs == inputs).all() for batch, inputs in zip(kept, passing)) and len(kept) == len(passing) == 13
    assert len({batch.inputs.data_ptr() for batch in kept}) == 13


@pytest.mark.parametrize("augment", [None, lambda pixels, indices: pixels, lambda pixels, indices: 255 - pixels, lambda pixels, indices: pixels.neg_().add_(255)])
def test_reused_memory_changes_no_number(augment):
    splits = load_data(DataConfig(size=40, channels=3))
    order = np.random.default_rng(0).permutation(200)
    first, second = ([batch.inputs.clone() for batch in batches(splits.train, splits.preprocess, 64, order, augment, reuse=reuse)] for reuse in (False, True))
    assert all((a == b).all() for a, b in zip(first, second)) and sum(map(len, second)) == 200
    if augment is None:
        assert np.array_equal(np.concatenate(second), splits.preprocess.normalize(splits.train.images[order]))


def test_images_that_are_mapped_give_the_same_batches(pets, tmp_path):
    held, mapped = load_data(folder(pets)), load_data(folder(pets, memory_limit=0, cache_dir=str(tmp_path / "cache")))
    order = np.random.default_rng(0).permutation(len(held.train))
    both = [[*batches(splits.train, splits.preprocess, 4, order)] for splits in (held, mapped)]
    assert all((a.inputs == b.inputs).all() and (a.targets == b.targets).all() for a, b in zip(*both))
    assert np.array_equal(mapped.train.select([3, 1]).images, held.train.select([3, 1]).images)


def test_batches_are_channels_last_float32(pets):
    torch = pytest.importorskip("torch")
    splits = load_data(folder(pets))
    batch = next(batches(splits.train, splits.preprocess, 4))
    assert batch.inputs.dtype == torch.float32 and batch.targets.dtype == batch.indices.dtype == torch.int64
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)


def test_validation_and_test_batches_hold_no_augmented_image_ever(tmp_path):
    torch = pytest.importorskip("torch")
    augment = pytest.importorskip("image_classifier.data.augment")
    from image_classifier.config import AugmentConfig
    for number in range(60):  # noise, and a white mark in one corner: a flip, shift or turn moves it
        image = picture(number, 16)
        image.paste((255, 255, 255), (0, 0, 5, 3))
        save(tmp_path / "ab"[number % 2] / f"{number}.png", image)
    splits = load_data(folder(tmp_path))
    strong = AugmentConfig(horizontal_flip=True, translate=0.2, rotation=20.0, color_jitter=0.3)
    changed = 0
    for epoch in range(3):
        for part in (splits.train, splits.valid, splits.test):
            change = augment.make_augment(strong, seed=1, epoch=epoch) if part is splits.train else None
            for batch in batches(part, splits.preprocess, 16, augment=change):
                rows = batch.indices.numpy()
                plain = torch.from_numpy(splits.preprocess.normalize(part.images[rows]))
                touched = (batch.inputs != plain).flatten(1).any(1)
                if part is splits.train:
                    changed += int(touched.sum())
                else:
                    assert not touched.any()
                    files = [splits.preprocess.pixels((tmp_path / part.ids[row]).read_bytes()) for row in rows]
                    assert np.array_equal(batch.inputs, splits.preprocess.normalize(np.stack(files)))
    assert changed > 2 * len(splits.train)  # so the test would have noticed


def test_loading_data_does_not_import_torch():
    code = "import sys; from image_classifier.data.loading import load_data; load_data('digits'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# real data


def test_real_mnist_has_its_published_statistics(tmp_path):
    with tarfile.open(real("mnist-idx.tar.gz")) as tar:
        tar.extractall(tmp_path, filter="data")
    splits = load_data(DataConfig("mnist", str(tmp_path)))
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [54000, 6000, 10000]
    assert splits.test.counts()["1"] == 1135 and splits.test.targets[:5].tolist() == [7, 2, 1, 0, 4]
    assert splits.preprocess.mean[0] == pytest.approx(0.1307, abs=5e-4) and splits.preprocess.std[0] == pytest.approx(0.3081, abs=5e-4)


def test_real_cifar_folder_is_read_as_it_is(tmp_path):
    wanted = {}
    with tarfile.open(real("cifar10-jpeg.tar.gz"), "r|gz") as tar:
        for member in tar:
            key = "/".join(member.name.split("/")[1:3])
            if member.isfile() and wanted.get(key, 0) < 20:
                wanted[key] = wanted.get(key, 0) + 1
                tar.extract(member, tmp_path, filter="data")
    splits = load_data(folder(tmp_path / "cifar10"))
    assert splits.classes == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [180, 20, 200]
    assert splits.train.images.shape[1:] == (3, 32, 32)


# new photos for an old classifier


def test_few_new_photos_are_all_measured(tmp_path):
    for number in range(10):
        save(tmp_path / ("cat" if number < 9 else "dog") / f"{number}.png", picture(number))
    photos = load_evaluation_set(str(tmp_path))
    assert photos.counts() == {"cat": 9, "dog": 1} and len(set(photos.ids)) == 10
    assert load_evaluation_set(folder(tmp_path, size=16, channels=1)).images.shape == (10, 1, 16, 16)


def test_own_test_set_alone_is_measured(pets, tmp_path):
    shutil.copytree(pets, tmp_path / "both" / "train")
    save(tmp_path / "both" / "test" / "cat" / "new.png", picture(99))
    photos = load_evaluation_set(folder(tmp_path / "both"))
    assert (photos.ids, photos.classes) == (("test/cat/new.png",), ("cat", "dog"))


def test_digits_are_measured_whole():
    digits = load_evaluation_set("digits")
    assert len(digits) == 1797 == len(set(digits.ids)) and digits.images.shape[1:] == (1, 8, 8)


def test_mapped_test_images_are_not_taken_for_splits(pets, tmp_path):
    mapped = folder(pets, memory_limit=0, cache_dir=str(tmp_path / "cache"))
    assert [len(load_evaluation_set(mapped)), len(load_data(mapped).test), len(load_evaluation_set(mapped))] == [20, 4, 20]
    held = load_evaluation_set(folder(pets))
    assert np.array_equal(load_evaluation_set(mapped).images, held.images) and load_evaluation_set(mapped).ids == held.ids == tuple(sorted(held.ids))


def test_damaged_new_photos_are_refused_or_left_out_and_counted(pets):
    (pets / "cat" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 20 files cannot be used: cat/0.png: empty file"):
        load_evaluation_set(folder(pets))
    with pytest.warns(UserWarning, match="1 damaged image is left out: cat/0.png"):
        assert len(load_evaluation_set(folder(pets), allow=["corrupt"])) == 19
    for path in pets.glob("*/*.png"):
        path.write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match="no image is left to measure on"), pytest.warns(UserWarning):
        load_evaluation_set(folder(pets), allow=["corrupt"])


# what it was loaded from


def test_splits_remember_what_they_were_loaded_from(pets):
    config = folder(pets, valid_fraction=0.3)
    splits = load_data(config)
    config.formats.append("gif")
    assert splits.config == folder(pets, valid_fraction=0.3) != config
    assert load_data("digits").config == DataConfig()


def test_table_is_loaded_by_its_path_alone(pets):
    rows = [f"{path.parent.name}/{path.name},{path.parent.name}" for path in pets.glob("*/*.png")]
    (pets / "Labels.CSV").write_text("file,label\n" + "\n".join(rows))
    splits = load_data(str(pets / "Labels.CSV"))
    assert splits.name == "csv" and splits.fingerprint == load_data(folder(pets)).fingerprint
    assert len(load_evaluation_set(str(pets / "Labels.CSV"))) == 20
