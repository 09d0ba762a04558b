"Drawn images for tests, folders of them, and helpers that load a folder and return its error or warnings."
import warnings

import numpy as np
import pytest
from PIL import Image

from image_classifier.config import DataConfig
from image_classifier.core import DataError
from image_classifier.data import load_data


def picture(seed, side=8, mode="RGB"):
    "Return an image of random pixels, different for each seed."
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def save(path, image, **options):
    "Save an image, create its folder if needed, and return the path."
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


@pytest.fixture
def pets(tmp_path):
    "A folder with two classes of ten images."
    for number in range(20):
        save(tmp_path / "pets" / ("cat" if number < 10 else "dog") / f"{number % 10}.png", picture(number))
    return tmp_path / "pets"


def refused(root, *parts, allow=(), **settings):
    "Return the message of the `DataError`, which must contain all `parts`."
    with pytest.raises(DataError) as caught:
        load_data(DataConfig(**{"name": "folder", "root": str(root), **settings}), allow)
    assert caught.value.exit_code == 3
    for part in parts:
        assert part in str(caught.value)
    return str(caught.value)


def warned(config, allow=()):
    "Return the loaded splits and the warnings."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        splits = load_data(config, allow)
    return splits, [str(warning.message) for warning in caught]


def folder(root, **settings):
    "Return the configuration of a folder data set."
    return DataConfig("folder", str(root), **settings)


def every_id(splits):
    "Return the ids of all splits."
    return [*splits.train.ids, *splits.valid.ids, *splits.test.ids]
