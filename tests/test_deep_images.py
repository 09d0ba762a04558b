"Images of more than 8 bits, and formats beyond the usual: a data set determines how they are read, and its classifier reads them so."
import json
import shutil

import numpy as np
import pytest
from folders import folder, pets, refused, save, warned  # noqa: F401
from PIL import Image
from pictures import png

from image_classifier.cli import main
from image_classifier.config import compose
from image_classifier.data import load_data, load_evaluation_set
from image_classifier.inference import Classifier
from image_classifier.runs import train


def fill(root, values, suffix):
    "Write two classes of ten images: `values` returns the array of one of them."
    for number in range(20):
        save(root / ("cat" if number < 10 else "dog") / f"{number % 10}.{suffix}", Image.fromarray(values(number)))
    return root


def twelve_bits(number):
    "A microscope's image: 0 to 4095, dark for cats and bright for dogs."
    values = np.random.default_rng(number).integers(0, 2000, (16, 16)) + 2000 * (number >= 10)
    values[0, 0] = 4000 if number == 19 else values[0, 0]
    return values.astype(np.uint16)


def pixels(splits):
    "Return the pixels of each image by its id."
    return {id: np.asarray(image) for part in (splits.train, splits.valid, splits.test) for id, image in zip(part.ids, part.images)}


def ranges(splits):
    return splits.preprocess.limits.integer_range, splits.preprocess.limits.float_range


# ranges of a data set


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_12_bits_in_16_bit_files_keep_their_gray_levels(tmp_path, suffix):
    root = fill(tmp_path / "pets", twelve_bits, suffix)
    splits, lines = warned(folder(root, formats=["png", "tiff"]))
    assert ranges(splits) == ((0, 4095), None) and "I;16 | 20 | 0 to 4095 scaled to 8 bits" in lines[0]
    found = pixels(splits)
    for number in (0, 7, 19):
        expected = twelve_bits(number) / 4095 * 255
        assert np.abs(found[f"{'cat' if number < 10 else 'dog'}/{number % 10}.{suffix}"][0] - expected).max() <= 0.5


def test_dim_images_are_not_taken_for_equal_ones(tmp_path):
    def dim(number):
        return (160 + np.random.default_rng(number).integers(0, 60, (16, 16))).astype(np.uint16)
    splits, _ = warned(folder(fill(tmp_path / "pets", dim, "png")))
    assert ranges(splits)[0] == (0, 255) and np.array_equal(pixels(splits)["cat/3.png"][0], dim(3))


FLOATS = {"0 to 1": (lambda number: 0.04 * number, (0, 1)), "0 to 255": (lambda number: 10 * number, (0, 255)),
          "-1 to 1": (lambda number: number / 9.5 - 1, (-1, 1)), "temperatures": (lambda number: 270.0 + number, (270, 289)),
          "dark ones among bright ones": (lambda number: 0.5 if number < 10 else 200, (0, 255))}


@pytest.mark.parametrize("name", FLOATS)
def test_float_images_are_scaled_by_one_range_for_all(tmp_path, name):
    gray, (black, white) = FLOATS[name]
    def flat(number):
        values = np.full((8, 8), gray(number), np.float32)
        values[0, 0] = np.float32(gray(0)) + np.float32(number * (gray(19) - gray(0)) / 19)  # no two images are equal
        return values
    splits, _ = warned(folder(fill(tmp_path / "pets", flat, "tiff"), formats=["tiff"]))
    assert ranges(splits)[1] == pytest.approx((black, white))
    found = pixels(splits)
    for number in (0, 9, 10, 19):
        expected = (gray(number) - black) / (white - black) * 255
        assert abs(found[f"{'cat' if number < 10 else 'dog'}/{number % 10}.tiff"][0, 4, 4] - expected) <= 0.6


def test_integers_and_floats_of_one_data_set_have_their_own_ranges(tmp_path):
    def mixed(number):
        return twelve_bits(number) if number % 2 else (twelve_bits(number) / 4095).astype(np.float32)
    splits, _ = warned(folder(fill(tmp_path / "pets", mixed, "tiff"), formats=["tiff"]))
    assert ranges(splits) == ((0, 4095), (0, 1))
    for number in (0, 1):
        assert np.abs(pixels(splits)[f"cat/{number}.tiff"][0] - twelve_bits(number) / 4095 * 255).max() <= 0.51


def test_8_bit_images_beside_deep_ones_keep_their_values(tmp_path):
    root = fill(tmp_path / "pets", twelve_bits, "png")
    plain = np.random.default_rng(9).integers(0, 256, (16, 16), np.uint8)
    save(root / "cat" / "plain.png", Image.fromarray(plain))
    assert np.array_equal(pixels(warned(folder(root))[0])["cat/plain.png"][0], plain)


def test_16_bit_color_that_would_lose_its_low_bits_is_refused(tmp_path):
    def write(high):
        for number in range(20):
            values = np.random.default_rng(number).integers(0, high, (8, 8, 3)).astype(">u2")
            path = tmp_path / ("cat" if number < 10 else "dog") / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(png(8, 8, b"".join(b"\0" + row.tobytes() for row in values), depth=16))
        return values
    write(4096)
    refused(tmp_path, "20 of 20 files cannot be used", "16-bit color that uses 12 bits or fewer would lose its low bits")
    last = write(65536)
    assert np.array_equal(pixels(load_data(folder(tmp_path)))["dog/19.png"].transpose(1, 2, 0), last >> 8)


def test_the_range_is_the_same_from_the_cache(tmp_path):
    root = fill(tmp_path / "pets", twelve_bits, "png")
    config = folder(root, memory_limit=0, cache_dir=str(tmp_path / "cache"))
    first, again = warned(config)[0], load_data(config)
    assert again.preprocess == first.preprocess and ranges(again)[0] == (0, 4095)


# what reaches the classifier


def test_limits_of_the_data_reach_the_classifier(tmp_path):
    root = fill(tmp_path / "pets", twelve_bits, "png")
    limits = warned(folder(root, formats=["png", "gif"], max_pixels=300, max_bytes=5000))[0].preprocess.limits
    assert (limits.formats, limits.max_pixels, limits.max_bytes) == (("png", "gif"), 300, 5000)
    assert load_data("digits").preprocess.limits.formats == ("png", "jpeg", "webp", "bmp")


def test_raised_limits_do_not_change_the_fingerprint(pets):
    assert load_data(folder(pets)).fingerprint == load_data(folder(pets, max_pixels=60_000_000)).fingerprint


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A run of one epoch on 12-bit TIFF images."
    place = tmp_path_factory.mktemp("deep")
    root = fill(place / "pets", twelve_bits, "tif")
    with pytest.warns(UserWarning, match="0 to 4095 scaled to 8 bits"):
        return train(compose([f"data={root}", "data.formats=[tiff]", "data.max_bytes=9000", "epochs=1", "batch_size=4"]), place / "run")


@pytest.fixture
def ic(capsys):
    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()
    return call


def test_a_classifier_predicts_the_kind_of_image_it_was_trained_on(run, ic):
    root = run.path.parent / "pets"
    code, out, err = ic("predict", run.path, root, "--json")
    answers = json.loads(out)["predictions"]
    assert (code, len(answers)) == (0, 20), err
    classifier = Classifier.load(run.path)
    assert classifier.preprocess.limits.integer_range == (0, 4095) and classifier.preprocess.limits.max_bytes == 9000
    expected = classifier.probabilities(np.stack([image for _, image in sorted(pixels(load_data(run.config.data)).items())]))
    found = [[one["all_probabilities"][name] for name in classifier.classes] for one in sorted(answers, key=lambda one: one["image"])]
    assert np.allclose(found, expected, atol=1e-6)


def test_a_classifier_evaluates_the_kind_of_image_it_was_trained_on(run, ic, tmp_path):
    assert ic("evaluate", run.path)[0] == 0
    other = tmp_path / "other"  # darker images, whose own range would be 0 to 2047
    for number in range(10):
        save(other / "cat" / f"{number}.tif", Image.fromarray(twelve_bits(number) // 2))
    shutil.copytree(run.path / "classifier", tmp_path / "alone")
    for place in (run.path, tmp_path / "alone"):
        code, out, err = ic("evaluate", place, f"data={other}")
        assert code == 0 and "10 test images" in out, err
    dataset = load_evaluation_set(str(other), preprocess=Classifier.load(run.path).preprocess)
    assert np.abs(dataset.images[dataset.ids.index("cat/3.tif")][0] - twelve_bits(3) // 2 / 4095 * 255).max() <= 0.51


def test_other_formats_can_be_named_for_an_evaluation(run, ic, tmp_path):
    fill(tmp_path / "pets", twelve_bits, "png")
    assert ic("evaluate", run.path, f"data={tmp_path / 'pets'}")[0] == 3
    assert ic("evaluate", run.path, f"data={tmp_path / 'pets'}", "data.formats=[png]")[0] == 0
