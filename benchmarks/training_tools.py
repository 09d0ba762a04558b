"""What do MixUp, CutMix, RandAugment and the others change? Each one switched on alone, with the same data, network and number of steps.

    python benchmarks/training_tools.py [SEEDS [IMAGES [EPOCHS [NAME ...]]]]   # 3 seeds, 2,000 images of CIFAR-10, 12 epochs, all techniques

Needs $IMAGE_CLASSIFIER_DATA, a folder with cifar10-jpeg.tar.gz and hymenoptera.tar.gz. Networks start from random weights, so the photos of
ants and bees are few. The table shows the test accuracy and test loss, and their mean difference from the plain training with the same seed, with a
95 % interval (Student's t over the seeds; the same images are tested each time). A difference whose interval holds 0 is no difference.
The last line is one JSON object; there is no bar."""
import json
import os
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

from checkpoints import machine
from scipy.stats import t

from image_classifier.config import compose
from image_classifier.core import permutation
from image_classifier.data import load_data, Splits
from image_classifier.metrics import evaluate
from image_classifier.runs import new_model
from image_classifier.training import fit, training_arguments

TECHNIQUES = {
    "plain": "", "label smoothing 0.1": "hyperparameters.label_smoothing=0.1", "focal loss 2": "hyperparameters.focal_gamma=2",
    "MixUp 0.2": "augment.mixup=0.2", "CutMix 1": "augment.cutmix=1", "MixUp and CutMix": "augment.mixup=0.2 augment.cutmix=1",
    "RandAugment 9": "augment.randaugment=9", "TrivialAugment": "augment.trivial=true", "resized crop 0.35": "augment.resized_crop=0.35",
    "erasing 0.25": "augment.erasing=0.25", "EMA 0.99": "hyperparameters.ema_decay=0.99", "SWA 0.75": "hyperparameters.swa_start=0.75",
    "class weights": "hyperparameters.class_weights=balanced", "balanced sampling": "hyperparameters.balanced_sampling=true",
    "hard images 0.7": "hyperparameters.hard_images=0.7"}


def some(splits: Splits, train: int, rest: int) -> Splits:
    "Some images of each split."
    def _part(dataset, count):
        return dataset.select(permutation(len(dataset), 42, 0)[:count])
    return replace(splits, train=_part(splits.train, train), valid=_part(splits.valid, rest), test=_part(splits.test, rest))


def measured(splits: Splits, words: list[str], seed: int) -> dict:
    "Train once, and measure accuracy and loss on the test images."
    config = compose([*words, f"seed={seed}", "early_stopping_patience=0", "device=cpu"])
    model, begun = new_model(config, splits), time.perf_counter()
    fit(model, splits, **training_arguments(config))
    seconds, metrics = time.perf_counter() - begun, evaluate(model, splits.test, splits.preprocess).metrics
    return {"accuracy": metrics["accuracy"]["value"], "loss": metrics["loss"]["value"], "seconds": seconds}


def difference(found: list[float], plain: list[float]) -> tuple[float, float]:
    "The mean difference of runs with equal seeds, and half the width of its interval."
    values = [a - b for a, b in zip(found, plain)]
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values)**0.5 if len(values) > 1 else float("nan")
    return mean(values), half


def row(name: str, runs: list[dict], plain: list[dict]) -> dict:
    "One line of the table, which is printed."
    found = {"name": name, "seconds": mean(run["seconds"] for run in runs)}
    for key in ("accuracy", "loss"):
        values, base = [run[key] for run in runs], [run[key] for run in plain]
        found[key] = mean(values)
        found[f"{key}_difference"], found[f"{key}_half_width"] = difference(values, base)
    print(f"| {name} | {found['accuracy']:.3f} | {found['accuracy_difference']:+.3f} ± {found['accuracy_half_width']:.3f} | {found['loss']:.3f} "
          f"| {found['loss_difference']:+.3f} ± {found['loss_half_width']:.3f} | {found['seconds']:.1f} |", flush=True)
    return found


if __name__ == "__main__":
    folder = os.environ.get("IMAGE_CLASSIFIER_DATA")
    if not folder:
        print("IMAGE_CLASSIFIER_DATA names no folder")
        sys.exit(77)
    seeds, images, epochs = (int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((1, 3), (2, 2000), (3, 12)))
    names, facts, tables = sys.argv[4:] or list(TECHNIQUES), machine(), {}
    warnings.simplefilter("ignore")
    shared = ["model=simple_cnn", "hyperparameters.optimizer=adamw", "lr=0.003", "hyperparameters.scheduler_type=onecycle", "augment=none", "hyperparameters.dropout=0"]
    cifar = some(load_data(Path(folder) / "cifar10-jpeg.tar.gz"), images, min(images, 2000))
    photos = compose([f"data={folder}/hymenoptera.tar.gz", "data.size=64", "allow=[corrupt]"])
    cases = {"CIFAR-10": (cifar, epochs, 64), "hymenoptera": (load_data(photos.data, allow=photos.allow), 2 * epochs, 32)}
    for case, (splits, count, batch_size) in cases.items():
        print(f"{case}: {len(splits.train)} training images, {len(splits.test)} test images, {count} epochs, {seeds} seeds\n")
        print("| technique | accuracy | difference | loss | difference | seconds |\n|---|---|---|---|---|---|")
        plain, tables[case] = None, []
        for name in dict.fromkeys(["plain", *names]):
            words = [*shared, "augment.horizontal_flip=true", "augment.translate=0.1", f"epochs={count}", f"batch_size={batch_size}", *TECHNIQUES[name].split()]
            runs = [measured(splits, words, seed) for seed in range(1, seeds + 1)]
            plain = plain or runs
            tables[case].append(row(name, runs, plain))
        print()
    print(json.dumps({"benchmark": "training_tools", "good": True, "tables": tables, "seeds": seeds, "machine": facts}))
