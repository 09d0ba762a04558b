"Threads and forked processes: trainings do not change each other's results, and a forked process does not hang."
import os
import signal
import threading
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from image_classifier.config import Hyperparameters
from image_classifier.core import ConfigError, deterministic, seeded_rng, threads
from image_classifier.data import load_data
from image_classifier.inference import Classifier
from image_classifier.models import Architecture, build_model
from image_classifier.training import Callback, Compute, fit, snapshot

SEEDS = range(3)


def build(seed):
    "Return the initial weights of a network."
    return snapshot(build_model(Architecture("simple_cnn", channels=1, classes=10, size=8), seed))


@cache
def digits():
    splits = load_data("digits")
    return replace(splits, train=splits.train.select(range(96)), valid=splits.valid.select(range(32)))


def train(seed):
    "Return the weights after an epoch with dropout."
    model = build_model(Architecture("simple_cnn", channels=1, classes=10, size=8, dropout=0.5), seed)
    fit(model, digits(), Hyperparameters(num_epochs=1, batch_size=32), seed=seed)
    return snapshot(model)


def in_threads(work, arguments):
    "Return the results of `work`, each made in a thread of its own, at the same time; exceptions are results."
    results = {}

    def run(argument):
        try:
            results[argument] = work(argument)
        except Exception as problem:
            results[argument] = problem
    started = [threading.Thread(target=run, args=(argument,)) for argument in arguments]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(60)
    return [results[argument] for argument in arguments]


@pytest.mark.parametrize("work", [build, train])
def test_networks_made_in_several_threads_are_those_made_one_after_the_other(work):
    for alone, together in zip(map(work, SEEDS), in_threads(work, SEEDS)):
        assert all(torch.equal(alone[name], together[name]) for name in alone)


class Meanwhile(Callback):
    "Does something in another thread while the training runs."
    def __init__(self, work):
        self.work, self.results = work, []

    def on_epoch_start(self, state):
        self.results += in_threads(self.work, [0])


@pytest.mark.parametrize("other", [Compute(threads=3), Compute(deterministic=True)])
def test_a_training_in_another_thread_does_not_change_the_settings_of_this_one(other):
    epoch = Hyperparameters(num_epochs=1, batch_size=64)
    network = build_model(Architecture("simple_cnn", channels=1, classes=10, size=8))
    second = Meanwhile(lambda _: fit(network, digits(), epoch, compute=other))
    fit(build_model(Architecture("simple_cnn", channels=1, classes=10, size=8)), digits(), epoch, callbacks=[second])
    [problem] = second.results
    assert isinstance(problem, ConfigError) and "a process of its own" in problem.todo
    fit(network, digits(), epoch, compute=other)  # alone it is accepted


def in_fork(work, seconds=30):
    "Return the exit code of a forked process that does `work`, or None if it does not end in time."
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    for _ in range(10 * seconds):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
quiet = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@needs_fork
@quiet
def test_a_forked_process_predicts_with_the_classifier_that_its_parent_loaded(tmp_path):
    model = build_model(Architecture("simple_cnn", channels=3, classes=4, size=32))
    Classifier(model, replace(digits().preprocess, size=32, channels=3, mean=(0.5,) * 3, std=(0.2,) * 3), "abcd").save(tmp_path / "a")
    images = list(np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8))
    with threads(2):
        classifier = Classifier.load(tmp_path / "a")
        before = [found.predicted_class for found in classifier.predict(images)]  # starts OpenMP's threads
        assert in_fork(lambda: before == [found.predicted_class for found in classifier.predict(images)]) == 0


@needs_fork
@quiet
def test_a_forked_process_trains_with_one_thread_and_refuses_more():
    def refuses():
        try:
            fit(model, digits(), Hyperparameters(num_epochs=1, batch_size=64), compute=Compute(threads=2))
        except ConfigError as problem:
            return "forked" in problem.what and torch.get_num_threads() == 1

    model = build_model(Architecture("simple_cnn", channels=1, classes=10, size=8))
    with threads(2), deterministic(True):
        torch.ones(1 << 20).exp()
        assert in_fork(refuses) == 0
        assert in_fork(lambda: train(0)) == 0


@needs_fork
@quiet
def test_a_process_forked_while_a_thread_builds_a_network_builds_one_too():
    inside, done = threading.Event(), threading.Event()

    def hold():
        with seeded_rng(torch.device("cpu"), 0):
            inside.set()
            done.wait(60)
    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(60)
    try:
        assert in_fork(lambda: build(0)) == 0
    finally:
        done.set()
        thread.join()
