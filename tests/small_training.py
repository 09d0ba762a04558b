"A training of a few seconds: 320 digits, a small network."
from dataclasses import replace

import pytest

from image_classifier.data import load_data
from image_classifier.models import Architecture, build_model
from image_classifier.training import Callback


@pytest.fixture(scope="module")
def splits():
    "320 training digits: five steps of 64."
    digits = load_data("digits")
    return replace(digits, train=digits.train.select(range(320)), valid=digits.valid.select(range(64)))


def network():
    "Return a small network for them, with the same weights each time."
    return build_model(Architecture("simple_cnn", channels=1, classes=10, size=8), seed=1)


class StopAt(Callback):
    "Requests a stop after a step."
    def __init__(self, step, stop):
        self.step, self.stop = step, stop

    def on_step_end(self, state):
        if state.step == self.step:
            self.stop.requested = KeyboardInterrupt()
