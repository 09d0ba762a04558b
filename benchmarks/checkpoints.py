"""What do exactness and safety cost? The share of the training time that checkpoints take, and what deterministic operations slow down.

    python benchmarks/checkpoints.py [PAIRS]   # pairs of trainings, 3 by default

What differs in one thing runs in turn, A B A B, in one process, so that a machine that grows slow does so for both.
The last line is one JSON object; the exit code is 1 where a bar is missed."""
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from torch import nn

from image_classifier.config import compose
from image_classifier.core import choose_device, deterministic
from image_classifier.data import batches, Dataset, load_data, Preprocess, Splits
from image_classifier.models import Architecture, build_model
from image_classifier.training import Checkpoint, Checkpoints, fit, History, setup_training, train_step, training_arguments

MOST_SAVING = 0.05  # of the time of a training
MOST_SLOWER = 1.25  # a step's time with deterministic operations to one without


def random_colors(n: int = 5000, size: int = 32) -> Splits:
    "Random pixels in the shape of CIFAR-10; what is learnt from them does not matter here."
    rng = np.random.default_rng(0)
    def part(count: int) -> Dataset:
        images, targets = rng.integers(0, 256, (count, 3, size, size), np.uint8), rng.integers(0, 10, count)
        return Dataset(images, targets, tuple("0123456789"), tuple(map(str, range(count))))
    return Splits("random", part(n), part(n // 10), part(n // 10), Preprocess(size, 3, "crop", (0.5,) * 3, (0.25,) * 3), "0" * 64)


class TimedCheckpoints(Checkpoints):
    "Checkpoints that know after which epochs they were saved and how long each took."
    def __init__(self, folder: str):
        super().__init__(folder)
        self.took: dict[int, float] = {}

    def save(self, checkpoint: Checkpoint) -> None:
        "Save, and note the time."
        begun = time.perf_counter()
        super().save(checkpoint)
        self.took[checkpoint.state["epoch"]] = time.perf_counter() - begun


@dataclass
class Case:
    "A data set and how long it is trained on."
    splits: Splits
    epochs: int

    def __post_init__(self) -> None:
        self.config = compose([f"epochs={self.epochs}", "early_stopping_patience=0"])

    def model(self) -> nn.Module:
        "The network before its first step."
        p = self.splits.preprocess
        return build_model(Architecture("simple_cnn", p.channels, len(self.splits.classes), p.size, self.config.hyperparameters.dropout), seed=42)

    def train(self, checkpoints: Checkpoints | None = None) -> tuple[float, History]:
        "The seconds of a whole training, and its epochs."
        model, begun = self.model(), time.perf_counter()
        history = fit(model, self.splits, **training_arguments(self.config), checkpoints=checkpoints)
        return time.perf_counter() - begun, history


def saving(case: Case, pairs: int) -> dict:
    "What checkpoints cost, saved as by default, below the folder one stands in."
    without, within, shares, saves, after, others = [], [], [], [], [], []
    for _ in range(pairs):
        without.append(case.train()[0])
        with tempfile.TemporaryDirectory(dir=".") as place:
            seconds, history = case.train(checkpoints := TimedCheckpoints(place))
        within.append(seconds)
        shares.append(sum(checkpoints.took.values()) / seconds)
        saves.append(len(checkpoints.took))
        usual = median(result.seconds for result in history)
        for result in history[1:]:
            (after if result.epoch - 1 in checkpoints.took else others).append(result.seconds / usual)
    return {"share": median(shares), "worst_share": max(shares), "saves": median(saves), "epochs": case.epochs, "seconds": median(within),
            "epoch_after_a_save": median(after) / median(others) if after and others else None,
            "ratio": median(b / a for a, b in zip(without, within)), "slowest_to_fastest_without": max(without) / min(without)}


def exactness(case: Case, steps: int = 100) -> dict:
    "How much longer a step takes with deterministic operations."
    state, seconds = setup_training(case.model(), case.splits, case.config.hyperparameters, case.config.augment, case.config.seed), {False: [], True: []}
    batch = next(batches(case.splits.train, case.splits.preprocess, case.config.hyperparameters.batch_size, device=state.setup.compute.device))
    for _ in range(steps):
        for wanted, times in seconds.items():
            with deterministic(wanted):
                begun = time.perf_counter()
                train_step(state, batch)
                if state.setup.compute.device.type == "cuda":
                    torch.cuda.synchronize(state.setup.compute.device)
                times.append(time.perf_counter() - begun)
    usual, exact = median(seconds[False]), median(seconds[True])
    return {"ratio": exact / usual, "step_seconds": usual, "steps": steps}


def skipped(reason: str) -> None:
    "End with a code of its own: nothing was measured, so no bar was missed."
    print(f"skipped: {reason}", file=sys.stderr)
    sys.exit(77)


def machine() -> dict:
    "What the numbers hold for."
    device = choose_device()
    return {"python": platform.python_version(), "torch": str(torch.__version__), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
            "load": os.getloadavg()[0], "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()}


if __name__ == "__main__":
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    facts, cases = machine(), {"digits": Case(load_data("digits"), 50), "colors": Case(random_colors(), 5)}
    replace(cases["digits"], epochs=1).train()  # to get warm
    saved = {name: saving(case, pairs) for name, case in cases.items()}
    exact = {name: exactness(case) for name, case in cases.items()}
    good = all(one["share"] <= MOST_SAVING for one in saved.values()) and all(one["ratio"] <= MOST_SLOWER for one in exact.values())
    print(json.dumps({"benchmark": "checkpoints", "good": good, "saving": saved, "deterministic": exact, "pairs": pairs, "machine": facts}))
    sys.exit(not good)
