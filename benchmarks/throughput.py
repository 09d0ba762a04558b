"""How many training images a second, against the ordinary way: per-image Pillow transforms in a DataLoader with two workers.

    python benchmarks/throughput.py [ROUNDS]   # 5 by default

Both train the network of 620,810 parameters in batches of 128 on the same random pixels, with flip, rotation of 10 degrees and color jitter
of 0.2. The other side is the reference script, looked for in $IMAGE_CLASSIFIER_BENCH or ../shared/bench. The two run in turn, each for
60 batches a round after 10 that are not counted. The last line is one JSON object; the exit code is 1 where a bar is missed."""
import contextlib
import importlib.util
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from checkpoints import machine, random_colors, skipped
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms as T

from image_classifier.config import compose
from image_classifier.core import keep_freed_memory
from image_classifier.data import batches, make_augment
from image_classifier.runs import new_model
from image_classifier.training import epoch_order, setup_training, train_step

FASTER, ALONE = 2.0, 20_000  # times the reference's images a second; images a second of the data path without a network
COUNTED, WARM, BATCH = 60, 10, 128


def reference() -> object:
    "The reference script as a module."
    path = Path(os.environ.get("IMAGE_CLASSIFIER_BENCH", Path(__file__).resolve().parents[2] / "shared" / "bench")) / "reference_baseline.py"
    if not path.exists():
        skipped(f"no {path}. set IMAGE_CLASSIFIER_BENCH to the folder that holds it")
    spec = importlib.util.spec_from_file_location("reference_baseline", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def their_steps(images, targets) -> Iterator[None]:
    "Steps of the reference's training, without end."
    module = reference()
    data = module.Arrays.__new__(module.Arrays)
    data.images, data.labels = np.ascontiguousarray(images.transpose(0, 2, 3, 1)), targets.tolist()
    data.transform = T.Compose([T.Resize((32, 32)), T.RandomHorizontalFlip(), T.RandomRotation(10), T.ColorJitter(0.2, 0.2, 0.2), T.ToTensor(),
                                T.Normalize((0.5,) * 3, (0.5,) * 3)])
    model, loss = module.network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    for x, y in itertools.chain.from_iterable(DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=2, drop_last=True) for _ in itertools.count()):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield


def our_batches(splits, config) -> Iterator:
    "Augmented batches, without end."
    for epoch in itertools.count():
        order = epoch_order(len(splits.train), BATCH, config.seed, epoch)
        whole = order[:len(order) - len(order) % BATCH]
        yield from batches(splits.train, splits.preprocess, BATCH, whole, make_augment(config.augment, config.seed, epoch), reuse=True)


def our_steps(splits, config) -> Iterator[None]:
    "Steps of ours, without end."
    state = setup_training(new_model(config, splits), splits, config.hyperparameters, config.augment, config.seed)
    state.model.train()
    for batch in our_batches(splits, config):
        train_step(state, batch)
        yield


def rate(step: Callable[[], object]) -> float:
    "Images a second."
    for _ in range(WARM):
        step()
    begun = time.perf_counter()
    for _ in range(COUNTED):
        step()
    return COUNTED * BATCH / (time.perf_counter() - begun)


if __name__ == "__main__":
    rounds, facts = int(sys.argv[1]) if len(sys.argv) > 1 else 5, machine()
    splits = random_colors(50 * BATCH * 10)
    config = compose(["model=simple_cnn", "hyperparameters=fast", "augment=photos", "device=cpu"])
    ways = {"reference": their_steps(splits.train.images, splits.train.targets), "ours": our_steps(splits, config), "data_alone": our_batches(splits, config)}
    rates = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            with contextlib.nullcontext() if name == "reference" else keep_freed_memory():  # as `fit` does it
                rates[name].append(rate(lambda: next(way)))
    found = {name: median(values) for name, values in rates.items()}
    ratio = median(ours / theirs for ours, theirs in zip(rates["ours"], rates["reference"]))
    good = ratio >= FASTER and found["data_alone"] >= ALONE
    print(json.dumps({"benchmark": "throughput", "good": good, "ratio": ratio, "images_per_second": found, "rounds": rounds, "machine": facts}))
    sys.exit(not good)
