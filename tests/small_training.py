"A training of a few seconds: 320 digits, a small network."
from dataclasses import replace

import pytest

from image_classifier.data import load_data
from image_classifier.models import Architecture, build_model


@pytest.fixture(scope="module")
def splits():
    "320 training digits: five steps of 64."
    digits = load_data("digits")
    return replace(digits, train=digits.train.select(range(320)), valid=digits.valid.select(range(64)))


def network():
    "Return a small network for them, with the same weights each time."
    return build_model(Architecture("simple_cnn", channels=1, classes=10, size=8), seed=1)
