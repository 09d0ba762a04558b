"""How much can be learnt in the time in which the ordinary way makes three epochs? CIFAR-10 as class folders of JPEGs.

    python benchmarks/speed.py [SEEDS [SEEDS_OF_OTHER_BUDGETS]]   # 3 and 1 by default

Ours is `model=speednet hyperparameters=speed` with all images in each epoch (`hyperparameters.hard_images=1.0`): with the preset's own epochs, with one
epoch of small images, and with others that take about a quarter, half, two and four times the reference's time. A time runs from making the weights to the last validation. The reference script
is looked for in $IMAGE_CLASSIFIER_BENCH or ../shared/bench, the images in $IMAGE_CLASSIFIER_CIFAR10, a folder with train/ and test/. All run in
turn, once for each seed. The last line is one JSON object; the exit code is 1 where a bar is missed."""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median

from checkpoints import machine, skipped

from image_classifier.config import compose
from image_classifier.runs import train

ACCURACY, TIME = 0.84, 1.0  # of the preset: at least; of the reference's time, at most
SOON_ACCURACY, SOON_TIME = 0.667, 0.25  # of the single epoch
BENCH = Path(os.environ.get("IMAGE_CLASSIFIER_BENCH", Path(__file__).resolve().parents[2] / "shared" / "bench")) / "reference_baseline.py"
PRESET, SOON = "preset", "one epoch at 20 px"
CASES = {PRESET: [], SOON: ["epochs=1", "data.size=20"]}
BUDGETS = {"2 epochs at 24 px": ["epochs=2", "data.size=24"], "3 epochs": ["epochs=3"], "12 epochs": ["epochs=12"], "24 epochs": ["epochs=24"]}


def theirs(images: str, seed: int) -> tuple[float, float]:
    "Test accuracy and seconds of the reference."
    words = [sys.executable, str(BENCH), "--data", images, "--epochs", "3", "--seed", str(seed)]
    found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return found["test_accuracy"], found["train_seconds"]


def ours(images: str, seed: int, more: list[str]) -> tuple[float, float]:
    "Test accuracy and seconds of a run."
    with tempfile.TemporaryDirectory() as folder:
        words = [f"data={images}", "model=speednet", "hyperparameters=speed", "hyperparameters.hard_images=1.0", f"seed={seed}",
                 "check_near_duplicates=false", "device=cpu", *more]
        metrics = train(compose(words), f"{folder}/run").metrics
    return metrics["test"]["accuracy"]["value"], metrics["time"]["train_seconds"]


if __name__ == "__main__":
    images = os.environ.get("IMAGE_CLASSIFIER_CIFAR10")
    if not images or not BENCH.exists():
        skipped("set IMAGE_CLASSIFIER_CIFAR10 to a folder with train/ and test/, and IMAGE_CLASSIFIER_BENCH to that of reference_baseline.py")
    seeds, others = (int(given) if given else default for given, default in zip([*sys.argv[1:], "", ""], (3, 1)))
    facts, references, runs = machine(), [], {name: [] for name in CASES | BUDGETS}
    for seed in range(seeds):
        accuracy, reference = theirs(images, seed)
        references.append([accuracy, reference])
        for name, words in (CASES | BUDGETS if seed < others else CASES).items():
            accuracy, seconds = ours(images, seed, words)
            runs[name].append([accuracy, seconds, seconds / reference])
            print(f"seed {seed}, {name}: accuracy {accuracy:.4f}, {seconds:.1f} s, {seconds / reference:.3f} of the reference's time", flush=True)
    found = {name: {"accuracy": mean(run[0] for run in several), "ratio": median(run[2] for run in several), "runs": several} for name, several in runs.items() if several}
    bars = {PRESET: (ACCURACY, TIME), SOON: (SOON_ACCURACY, SOON_TIME)}
    good = all(found[name]["accuracy"] >= accuracy and found[name]["ratio"] <= ratio for name, (accuracy, ratio) in bars.items())
    print(json.dumps({"benchmark": "speed", "good": good, "ratio": found[PRESET]["ratio"], "found": found,
                      "reference": {"accuracy": mean(accuracy for accuracy, _ in references), "runs": references}, "machine": facts}))
    sys.exit(not good)
