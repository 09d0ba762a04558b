"Loading, splits, fingerprints, batches and augmentation: what a user loses if one of them is wrong."
import base64
import hashlib
import io
import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from folders import every_id, folder, pets, picture, refused, save, warned  # noqa: F401

from image_classifier.config import AugmentConfig, DataConfig
from image_classifier.core import ConfigError, DataError, uniform
from image_classifier.data import AUGMENTATIONS, batches, connected_groups, decode, File, hash_priorities, IndexedArrayView, load_data
from image_classifier.data import load_evaluation_set, make_augment, pixel_digests, register_augmentation, stratified_sample, to_device
from image_classifier.data.source_images import _reader

REAL = Path(os.environ.get("IMAGE_CLASSIFIER_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data"))


def real(name):
    "Return a file of the real data, or skip the test and name what is missing."
    if not (REAL / name).is_file():
        pytest.skip(f"no {name}; set IMAGE_CLASSIFIER_DATA to the folder that holds it")
    return REAL / name


# size and channels


@pytest.mark.parametrize("sides, expected", [
    ([(7, 7)], 7), ([(64, 64)], 64), ([(65, 65)], 64), ([(100, 100)], 96), ([(300, 100)], 96), ([(100, 300)], 96),
    ([(500, 400)], 224), ([(20, 20), (20, 24)], 64), ([(90, 90), (130, 200), (400, 400)], 128)])
def test_auto_size_keeps_small_squares_and_never_enlarges_photos_beyond_64(tmp_path, sides, expected):
    for number in range(6):
        save(tmp_path / "ab"[number % 2] / f"{number}.png", picture(number).resize(sides[number % len(sides)]))
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
def test_split_fractions_hold_within_one_image_per_class(seed):
    targets = np.random.default_rng(seed).integers(0, 7, 500)
    rows = np.arange(500)
    chosen = stratified_sample(targets, rows, hash_priorities([f"{row}" for row in rows], seed), 0.13)
    expected = np.bincount(targets) * 0.13
    assert (np.abs(np.bincount(targets[chosen], minlength=7) - expected) <= 1).all()


@pytest.mark.parametrize("seed", range(5))
def test_groups_of_mixed_classes_are_not_divided_and_stay_near_the_fraction(seed):
    random = np.random.default_rng(seed)
    targets, groups = random.integers(0, 3, 600), random.integers(0, 120, 600)
    units = connected_groups(groups)
    chosen = stratified_sample(targets, units, hash_priorities([f"{row}" for row in range(600)], seed)[units], 0.2)
    assert not set(groups[chosen]) & set(groups[~chosen])
    assert (np.abs(np.bincount(targets[chosen]) - np.bincount(targets) * 0.2) <= 5).all()


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.4])
def test_groups_are_tested_equally_often_whatever_their_size(mixed, fraction):
    random = np.random.default_rng(4)
    sizes = np.rint(np.geomspace(1, 60, 30)).astype(int)[random.permutation(30)]
    groups = np.repeat(np.arange(30), sizes)
    targets = random.integers(0, 2, len(groups)) if mixed else groups % 2
    units, names = connected_groups(groups), [f"{row}" for row in range(len(groups))]
    drawn = []
    for seed in range(300):
        chosen = stratified_sample(targets, units, hash_priorities(names, seed)[units], fraction)
        assert not set(groups[chosen]) & set(groups[~chosen])
        assert set(targets[chosen]) == set(targets[~chosen]) == {0, 1}
        drawn.append(np.isin(np.arange(30), groups[chosen]))
    often, share = np.mean(drawn, axis=0), np.array(drawn) @ sizes / sizes.sum()
    largest, order = sizes.argmax(), np.argsort(sizes)
    assert abs(often[order[:15]].mean() - often[order[15:]].mean()) < 0.03 and abs(often[largest] - fraction) < 0.09
    assert abs(share.mean() - fraction) < 0.015 and share.std() < 0.06
    assert abs(np.average(sizes, weights=often) / sizes.mean() - 1) < 0.12  # the mean size of a group in the test set


def test_one_class_in_many_groups_of_one_size_gets_its_exact_share():
    groups = np.repeat(np.arange(50), 7)
    for seed in range(20):
        priorities = hash_priorities([f"{row}" for row in range(350)], seed)
        assert stratified_sample(np.repeat([0, 1], 175), connected_groups(groups), priorities[groups * 7], 0.2).sum() == 70


def test_every_split_has_each_class_of_few_large_groups(pets):
    rows = [(f"{name}/{number}.png", name, f"{name}{max(0, number - 7)}") for name in ("cat", "dog") for number in range(10)]
    (pets / "pets.csv").write_text("file,label,who\n" + "".join(",".join(row) + "\n" for row in rows))
    for seed in range(20):  # groups of eight, one and one
        splits = load_data(DataConfig("csv", str(pets / "pets.csv"), group_column="who", split_seed=seed))
        assert [set(part.targets) for part in (splits.train, splits.valid, splits.test)] == [{0, 1}] * 3


def test_split_depends_on_names_and_seed_not_on_the_order_on_disk(pets, tmp_path):
    files = sorted(pets.glob("*/*.png"))
    for path in reversed(files):  # a copy in another folder, made in another order
        (tmp_path / "copy" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "copy" / path.parent.name)
    first, second = load_data(folder(pets)), load_data(folder(tmp_path / "copy"))
    assert first.test.ids == second.test.ids and first.fingerprint == second.fingerprint
    assert load_data(folder(pets, split_seed=7)).test.ids != first.test.ids


def test_equal_pixels_in_other_files_stay_in_one_split(pets):
    for number in range(5):  # the same pixels in another format, under another name and even another label
        save(pets / "dog" / f"copy{number}.bmp", Image.open(pets / "cat" / f"{number}.png"))
    splits = load_data(folder(pets))
    parts = [{digest.tobytes() for digest in pixel_digests(part.images)} for part in (splits.train, splits.valid, splits.test)]
    assert len(set().union(*parts)) == 20 == sum(map(len, parts))


def test_test_set_of_the_source_is_the_same_whatever_the_seed(tmp_path):
    for number in range(30):
        save(tmp_path / ("test" if number % 3 == 0 else "train") / "ab"[number % 2] / f"{number}.png", picture(number))
    one, two = (load_data(folder(tmp_path, split_seed=seed)) for seed in (1, 2))
    assert one.test.ids == two.test.ids and one.valid.ids != two.valid.ids


def test_leaks_between_the_sources_own_splits_are_refused_unless_allowed(pets, tmp_path):
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


# memory-mapped images


def test_images_beyond_the_memory_limit_are_mapped_and_reused(pets, tmp_path):
    (pets / "cat" / "0.png").write_bytes(b"")
    mapped = folder(pets, memory_limit=0, cache_dir=str(tmp_path / "cache"))
    splits, lines = warned(mapped, ["corrupt"])
    held, _ = warned(folder(pets), ["corrupt"])
    assert isinstance(splits.train.images, IndexedArrayView) and isinstance(held.train.images, np.ndarray)
    assert splits.fingerprint == held.fingerprint and np.array_equal(splits.valid.images, held.valid.images)
    files = [(path, path.stat().st_mtime_ns) for path in (tmp_path / "cache").rglob("*.bin")]
    again, again_lines = warned(mapped, ["corrupt"])
    assert again.fingerprint == splits.fingerprint and again_lines == lines
    assert len(files) == 3 and files == [(path, path.stat().st_mtime_ns) for path in (tmp_path / "cache").rglob("*.bin")]
    inputs = [batch.inputs for batch in batches(splits.train, splits.preprocess, 4)]
    assert sum(map(len, inputs)) == len(splits.train)


def test_changed_file_is_decoded_again_despite_the_cache(pets, tmp_path):
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
            copy = root / path.parent.name / path.name
            Image.new("RGB", (8, 8), (shade, shade, shade)).save(copy.with_suffix(".bmp"))
            os.utime(copy.with_suffix(".bmp"), ns=(10**18, 10**18))
        path.unlink()
    first, second = (load_data(folder(root, memory_limit=0, cache_dir=cache)) for root in (pets, other))
    assert np.max(first.train.images) < 100 <= np.min(second.train.images)
    (tmp_path / "now").symlink_to(pets)
    assert load_data(folder(tmp_path / "now", memory_limit=0, cache_dir=cache)).fingerprint == first.fingerprint
    (tmp_path / "now").unlink()
    (tmp_path / "now").symlink_to(other)
    assert load_data(folder(tmp_path / "now", memory_limit=0, cache_dir=cache)).fingerprint == second.fingerprint
    assert len([*(tmp_path / "cache").rglob("images.bin")]) == 2


def _swap_files(root):
    (root / "cat" / "0.bmp").rename(root / "spare")
    (root / "dog" / "0.bmp").rename(root / "cat" / "0.bmp")
    (root / "spare").rename(root / "dog" / "0.bmp")


def _swap_class_folders(root):
    (root / "cat").rename(root / "spare")
    (root / "dog").rename(root / "cat")
    (root / "spare").rename(root / "dog")


def _replace_content_in_place(root):
    path, time = root / "cat" / "0.bmp", 10**18
    path.write_bytes((root / "dog" / "1.bmp").read_bytes())
    os.utime(path, ns=(time, time))


@pytest.mark.parametrize("change", [_swap_files, _swap_class_folders, _replace_content_in_place])
def test_files_of_equal_size_and_time_that_change_places_are_decoded_again(tmp_path, change):
    root = tmp_path / "pets"
    for number in range(20):
        path = save(root / ("cat" if number < 10 else "dog") / f"{number % 10}.bmp", picture(number))
        os.utime(path, ns=(10**18, 10**18))
    config = folder(root, memory_limit=0, cache_dir=str(tmp_path / "cache"))
    load_data(config)
    change(root)
    splits = load_data(config)
    for part in (splits.train, splits.valid, splits.test):
        for image, id in zip(part.images, part.ids):
            assert np.array_equal(image, decode((root / id).read_bytes())), id


def test_bytes_read_for_the_header_are_kept_for_the_pixels(tmp_path):
    path = tmp_path / "note.txt"
    path.write_bytes(b"seven..")
    read = _reader([File.from_stat(str(path), "note.txt", path.stat())], limit=100)
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


def test_kept_batches_are_not_overwritten():
    splits = load_data("digits")
    kept = [*batches(splits.train, splits.preprocess, 100)]
    copies = [batch.inputs.clone() for batch in batches(splits.train, splits.preprocess, 100, reuse=True)]
    assert all((batch.inputs == inputs).all() for batch, inputs in zip(kept, copies)) and len(kept) == len(copies) == 13
    assert len({batch.inputs.data_ptr() for batch in kept}) == 13


@pytest.mark.parametrize("augment", [None, lambda pixels, indices: pixels, lambda pixels, indices: 255 - pixels,
                                     lambda pixels, indices: pixels.neg_().add_(255)])
def test_reused_memory_gives_identical_batches(augment):
    splits = load_data(DataConfig(size=40, channels=3))
    order = np.random.default_rng(0).permutation(200)
    first, second = ([batch.inputs.clone() for batch in batches(splits.train, splits.preprocess, 64, order, augment, reuse=reuse)] for reuse in (False, True))
    assert all((a == b).all() for a, b in zip(first, second)) and sum(map(len, second)) == 200
    if augment is None:
        assert np.array_equal(np.concatenate(second), splits.preprocess.normalize(splits.train.images[order]))


def test_mapped_images_give_identical_batches(pets, tmp_path):
    held, mapped = load_data(folder(pets)), load_data(folder(pets, memory_limit=0, cache_dir=str(tmp_path / "cache")))
    order = np.random.default_rng(0).permutation(len(held.train))
    both = [[*batches(splits.train, splits.preprocess, 4, order)] for splits in (held, mapped)]
    assert all((a.inputs == b.inputs).all() and (a.targets == b.targets).all() for a, b in zip(*both))
    assert np.array_equal(mapped.train.select([3, 1]).images, held.train.select([3, 1]).images)


def test_mapped_batches_read_only_their_own_rows(pets, tmp_path, monkeypatch):
    mapped = load_data(folder(pets, memory_limit=0, cache_dir=str(tmp_path / "cache")))
    def read_everything(self, *args, **kwargs):
        raise AssertionError("the whole file was read for one batch")
    monkeypatch.setattr(IndexedArrayView, "__array__", read_everything)
    assert sum(len(batch.targets) for batch in batches(mapped.train, mapped.preprocess, 4)) == len(mapped.train)
    keep = [*batches(mapped.train, mapped.preprocess, 4, augment=lambda pixels, indices: pixels)]
    assert sum(len(batch.targets) for batch in keep) == len(mapped.train)


def test_batches_are_channels_last_float32(pets):
    torch = pytest.importorskip("torch")
    splits = load_data(folder(pets))
    batch = next(batches(splits.train, splits.preprocess, 4))
    assert batch.inputs.dtype == torch.float32 and batch.targets.dtype == batch.indices.dtype == torch.int64
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)


def test_validation_and_test_batches_are_never_augmented(tmp_path):
    torch = pytest.importorskip("torch")
    for number in range(60):  # noise, and a white mark in one corner, which a flip, translation or rotation moves
        image = picture(number, 16)
        image.paste((255, 255, 255), (0, 0, 5, 3))
        save(tmp_path / "ab"[number % 2] / f"{number}.png", image)
    splits = load_data(folder(tmp_path))
    strong = AugmentConfig(horizontal_flip=True, translate=0.2, rotation=20.0, color_jitter=0.3)
    changed = 0
    for epoch in range(3):
        for part in (splits.train, splits.valid, splits.test):
            augment = make_augment(strong, seed=1, epoch=epoch) if part is splits.train else None
            for batch in batches(part, splits.preprocess, 16, augment=augment):
                rows = batch.indices.numpy()
                plain = torch.from_numpy(splits.preprocess.normalize(part.images[rows]))
                touched = (batch.inputs != plain).flatten(1).any(1)
                if part is splits.train:
                    changed += int(touched.sum())
                else:
                    assert not touched.any()
                    files = [splits.preprocess.pixels((tmp_path / part.ids[row]).read_bytes()) for row in rows]
                    assert np.array_equal(batch.inputs, splits.preprocess.normalize(np.stack(files)))
    assert changed > 2 * len(splits.train)  # training images are changed, so the comparison can fail


def test_loading_data_does_not_import_torch():
    code = ("import sys; from image_classifier.data import Dataset, load_data, Splits; load_data('digits')._repr_html_()\n"
            "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)


# thumbnails


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_thumbnails_are_small_and_self_contained(channels):
    splits = load_data(DataConfig(size=100, channels=channels))
    shown = splits.train._repr_html_()
    assert len(shown) < 20_000 and "http" not in shown and "file:" not in shown
    strip = Image.open(io.BytesIO(base64.b64decode(re.search('base64,(.+?)"', shown)[1])))
    assert strip.size == (320, 32)  # one image for each of ten classes


def test_dataset_on_a_device_shows_the_same_thumbnails():
    torch = pytest.importorskip("torch")
    digits = load_data("digits").valid
    assert to_device(digits, torch.device("cpu"), max_bytes=1 << 30)._repr_html_() == digits._repr_html_()


def test_thumbnails_of_a_thousand_classes_stay_small():
    digits = load_data("digits").train
    many = replace(digits, targets=np.arange(len(digits)), classes=tuple(f"{i:04}" for i in range(len(digits))))
    assert len(many.thumbnails()) < 5_000


# augmentation


EXACT = AugmentConfig(horizontal_flip=True, translate=0.2)


def numbered_images(channels=3):
    "Return 20 images whose pixels are made of their positions, without a random number."
    torch = pytest.importorskip("torch")
    return (torch.arange(20 * channels * 9 * 14) * 37 % 256).reshape(20, channels, 9, 14).float()


def test_exact_augmentations_never_change():
    "Flip and translation by whole pixels are exact, so their bytes are equal on every machine and in every release."
    torch = pytest.importorskip("torch")
    augmented = [make_augment(EXACT, 42, epoch)(numbered_images(), torch.arange(100, 120)) for epoch in (0, 1, 7)]
    digest = hashlib.sha256(torch.stack(augmented).byte().numpy().tobytes()).hexdigest()
    assert digest == "71464b4fbd0d5ec975316bea43cc0c6f53fd76880aca90953ca4adb505f83fa2"


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_augmentation_equals_its_definition_bit_for_bit(channels, epoch):
    "All built-in operations, computed here step by step from the draws."
    torch = pytest.importorskip("torch")
    images, indices = numbered_images(channels), torch.arange(100, 120)
    flip = uniform(indices, 42, 0, "flip", 1)[:, 0]
    x, y, turn, *color = uniform(indices, 42, epoch, "augment", 6).T.contiguous()
    brightness, contrast, saturation = (0.7 + (1.3 - 0.7) * draw for draw in color)
    weights = (0.299, 0.587, 0.114)[:channels] if channels > 1 else (1.0,)
    scale = contrast * brightness
    gray = sum_in_order(images[:, i] * weight for i, weight in enumerate(weights))
    mean = sum_in_order(images[:, i].sum((1, 2)) / (9 * 14) * weight for i, weight in enumerate(weights))
    base = ((1 - contrast) * brightness * mean)[:, None, None]
    changed = images * (scale * saturation if channels > 1 else scale)[:, None, None, None]
    rest = gray * (scale * (1 - saturation))[:, None, None] + base if channels > 1 else base
    changed[:, :3] += rest[:, None]
    changed[:, 3:] = images[:, 3:]
    right, down = ((draw * (2 * most + 1)).long().clamp(max=2 * most) - most for draw, most in ((x, 3), (y, 2)))
    angle = math.radians(10) * -1 + (math.radians(10) + math.radians(10)) * turn
    mirror = torch.where((1 - flip if epoch % 2 else flip) < 0.5, -1.0, 1.0)
    column, row = torch.arange(14.0) - 6.5 - right[:, None], torch.arange(9.0) - 4 - down[:, None]
    cos, sin, across = torch.cos(angle)[:, None], torch.sin(angle)[:, None], mirror[:, None] * (2 / 14)
    grid = torch.stack([(cos * column * across)[:, None, :] + (-sin * row * across)[:, :, None],
                        (sin * column * (2 / 9))[:, None, :] + (cos * row * (2 / 9))[:, :, None]], 3)
    expected = torch.nn.functional.grid_sample(changed, grid, align_corners=False).clamp(0, 255)
    config = AugmentConfig(horizontal_flip=True, translate=0.2, rotation=10.0, color_jitter=0.3)
    assert torch.equal(make_augment(config, 42, epoch)(images, indices), expected)


def sum_in_order(terms):
    first, *others = terms
    for term in others:
        first = first + term
    return first


@pytest.fixture
def speckle():
    "A registered augmentation that sets one pixel of each image to white, removed after the test."
    @register_augmentation("speckle", numbers=2)
    def _speckle(pixels, draws, strength):
        changed = pixels.clone()
        row, column = (draws * min(pixels.shape[2:])).long()
        changed[range(len(pixels)), :, row, column] = 255.0 * strength
        return changed
    yield _speckle
    del AUGMENTATIONS["speckle"]


def test_own_augmentation_is_the_same_after_resuming_with_another_batch_size(speckle):
    torch = pytest.importorskip("torch")
    splits, order = load_data("digits"), np.random.default_rng(0).permutation(300)
    augment = make_augment(replace(EXACT, extra=["speckle"]), seed=1, epoch=2)
    whole, resumed = (torch.cat([batch.inputs for batch in batches(splits.train, splits.preprocess, size, rows, augment)])
                      for size, rows in ((300, order), (7, order[111:])))
    assert torch.equal(whole[111:], resumed)
    other = make_augment(replace(EXACT, extra=["speckle"]), seed=1, epoch=3)
    assert not torch.equal(next(batches(splits.train, splits.preprocess, 300, order, other)).inputs, whole)


def test_own_augmentation_does_not_change_the_draws_of_the_built_in_ones(speckle):
    torch = pytest.importorskip("torch")
    images, indices = numbered_images(), torch.arange(20)
    plain, extra = (make_augment(replace(EXACT, extra=extra), 1, 0)(images, indices) for extra in ([], ["speckle:1.0"]))
    assert ((plain != extra).any(1).flatten(1).sum(1) <= 1).all() and not torch.equal(plain, extra)


def test_unknown_augmentation_is_refused_with_the_nearest_name(speckle):
    with pytest.raises(ConfigError, match="unknown augmentation specle .augment.extra.. did you mean speckle?"):
        make_augment(AugmentConfig(extra=["specle"]), 0, 0)


def test_augmentation_of_another_module_is_not_replaced():
    with pytest.raises(ConfigError, match="an augmentation named rotation exists already .image_classifier.data.augment."):
        register_augmentation("rotation")(lambda pixels, draws, strength: pixels)
    assert AUGMENTATIONS["rotation"].function.__module__ == "image_classifier.data.augment"


# real data


def test_real_mnist_has_its_published_statistics(tmp_path):
    with tarfile.open(real("mnist-idx.tar.gz")) as tar:
        tar.extractall(tmp_path, filter="data")
    splits = load_data(DataConfig("mnist", str(tmp_path)))
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [54000, 6000, 10000]
    assert splits.test.counts()["1"] == 1135 and splits.test.targets[:5].tolist() == [7, 2, 1, 0, 4]
    assert splits.preprocess.mean[0] == pytest.approx(0.1307, abs=5e-4) and splits.preprocess.std[0] == pytest.approx(0.3081, abs=5e-4)


def test_real_cifar_folder_is_read_with_its_own_splits(tmp_path):
    counts = {}
    with tarfile.open(real("cifar10-jpeg.tar.gz"), "r|gz") as tar:
        for member in tar:
            key = "/".join(member.name.split("/")[1:3])
            if member.isfile() and counts.get(key, 0) < 20:
                counts[key] = counts.get(key, 0) + 1
                tar.extract(member, tmp_path, filter="data")
    splits = load_data(folder(tmp_path / "cifar10"))
    assert splits.classes == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [180, 20, 200]
    assert splits.train.images.shape[1:] == (3, 32, 32)


# evaluation sets for a trained classifier


def test_every_new_photo_is_in_the_evaluation_set(tmp_path):
    for number in range(10):
        save(tmp_path / ("cat" if number < 9 else "dog") / f"{number}.png", picture(number))
    photos = load_evaluation_set(str(tmp_path))
    assert photos.counts() == {"cat": 9, "dog": 1} and len(set(photos.ids)) == 10
    assert load_evaluation_set(folder(tmp_path, size=16, channels=1)).images.shape == (10, 1, 16, 16)


def test_evaluation_uses_only_the_sources_own_test_set(pets, tmp_path):
    shutil.copytree(pets, tmp_path / "both" / "train")
    save(tmp_path / "both" / "test" / "cat" / "new.png", picture(99))
    photos = load_evaluation_set(folder(tmp_path / "both"))
    assert (photos.ids, photos.classes) == (("test/cat/new.png",), ("cat", "dog"))


def test_all_digits_are_in_the_evaluation_set():
    digits = load_evaluation_set("digits")
    assert len(digits) == 1797 == len(set(digits.ids)) and digits.images.shape[1:] == (1, 8, 8)


def test_mapped_evaluation_set_and_splits_do_not_mix(pets, tmp_path):
    mapped = folder(pets, memory_limit=0, cache_dir=str(tmp_path / "cache"))
    assert [len(load_evaluation_set(mapped)), len(load_data(mapped).test), len(load_evaluation_set(mapped))] == [20, 4, 20]
    held = load_evaluation_set(folder(pets))
    assert np.array_equal(load_evaluation_set(mapped).images, held.images) and load_evaluation_set(mapped).ids == held.ids == tuple(sorted(held.ids))


def test_damaged_new_photos_are_refused_or_skipped_with_a_warning(pets):
    (pets / "cat" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 20 files cannot be used: cat/0.png: empty file"):
        load_evaluation_set(folder(pets))
    with pytest.warns(UserWarning, match="1 damaged image is left out: cat/0.png"):
        assert len(load_evaluation_set(folder(pets), allow=["corrupt"])) == 19
    for path in pets.glob("*/*.png"):
        path.write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match="no image is left to evaluate"), pytest.warns(UserWarning):
        load_evaluation_set(folder(pets), allow=["corrupt"])


# the configuration of loaded splits


def test_splits_keep_a_copy_of_their_configuration(pets):
    config = folder(pets, valid_fraction=0.3)
    splits = load_data(config)
    config.formats.append("gif")
    assert splits.config == folder(pets, valid_fraction=0.3) != config
    assert load_data("digits").config == DataConfig()


def test_csv_file_is_loaded_by_its_path(pets):
    rows = [f"{path.parent.name}/{path.name},{path.parent.name}" for path in pets.glob("*/*.png")]
    (pets / "Labels.CSV").write_text("file,label\n" + "\n".join(rows))
    splits = load_data(str(pets / "Labels.CSV"))
    assert splits.name == "Labels.CSV" and splits.fingerprint == load_data(folder(pets)).fingerprint
    assert len(load_evaluation_set(str(pets / "Labels.CSV"))) == 20
