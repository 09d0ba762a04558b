"""How much can be learnt in the time in which the ordinary way makes three epochs? CIFAR-10 as class folders of JPEGs.

    python benchmarks/speed.py [SEEDS]   # 3 by default

Ours is `model=speednet hyperparameters=speed` with the preset's own epochs; its time runs from making the weights to the last validation. The
reference script is looked for in $IMAGE_CLASSIFIER_BENCH or ../shared/bench, the images in $IMAGE_CLASSIFIER_CIFAR10, a folder with train/
and test/. Both run in turn, once for each seed. The last line is one JSON object; the exit code is 1 where a bar is missed."""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median

from checkpoints import machine

from image_classifier.config import compose
from image_classifier.runs import train

ACCURACY, TIME = 0.84, 1.0  # at least; of the reference's time, at most
BENCH = Path(os.environ.get("IMAGE_CLASSIFIER_BENCH", Path(__file__).resolve().parents[2] / "shared" / "bench")) / "reference_baseline.py"


def theirs(images: str, seed: int) -> dict:
    "What the reference prints at its end."
    words = [sys.executable, str(BENCH), "--data", images, "--epochs", "3", "--seed", str(seed)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def ours(images: str, seed: int) -> dict:
    "The measures of a run."
    with tempfile.TemporaryDirectory() as folder:
        words = [f"data={images}", "model=speednet", "hyperparameters=speed", f"seed={seed}", "near_duplicates=false", "device=cpu"]
        return train(compose(words), f"{folder}/run").metrics


if __name__ == "__main__":
    images = os.environ.get("IMAGE_CLASSIFIER_CIFAR10")
    if not images or not BENCH.exists():
        sys.exit("skipped: set IMAGE_CLASSIFIER_CIFAR10 to a folder with train/ and test/, and IMAGE_CLASSIFIER_BENCH to that of reference_baseline.py")
    seeds, facts = range(int(sys.argv[1]) if len(sys.argv) > 1 else 3), machine()
    pairs = [(theirs(images, seed), ours(images, seed)) for seed in seeds]
    accuracies = [run["test"]["accuracy"]["value"] for _, run in pairs]
    ratios = [run["time"]["train_seconds"] / reference["train_seconds"] for reference, run in pairs]
    good = mean(accuracies) >= ACCURACY and median(ratios) <= TIME
    print(json.dumps({"benchmark": "speed", "good": good, "accuracy": mean(accuracies), "accuracies": accuracies, "ratio": median(ratios), "ratios": ratios,
                      "seconds": [run["time"]["train_seconds"] for _, run in pairs],
                      "reference": {"accuracy": mean(reference["test_accuracy"] for reference, _ in pairs),
                                    "seconds": [reference["train_seconds"] for reference, _ in pairs]}, "machine": facts}))
    sys.exit(not good)
