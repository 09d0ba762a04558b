"""How far is a forecast from the truth? Three trainings, each forecast just before it begins.

    python benchmarks/forecast.py [ROUNDS]   # 3 by default

The last line is one JSON object with the ratio of the forecast to the seconds it took; the exit code is 1 where it is off by more than a fifth."""
import json
import sys
import time
from statistics import median

from checkpoints import machine, random_colors

from image_classifier.config import compose
from image_classifier.data import load_data
from image_classifier.runs import estimate_run, new_model
from image_classifier.training import fit, training_arguments

OFF = 0.2  # at most

if __name__ == "__main__":
    rounds, facts, colors = int(sys.argv[1]) if len(sys.argv) > 1 else 3, machine(), random_colors(10_000)
    cases = {"digits, simple_cnn, 20 epochs": (["epochs=20"], load_data("digits")),
             "10,000 colors, simple_cnn, 2 epochs": (["hyperparameters=fast", "augment=photos", "epochs=2"], colors),
             "10,000 colors, speednet, 3 epochs": (["model=speednet", "hyperparameters=speed", "augment=quick", "epochs=3"], colors)}
    ratios = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (words, splits) in cases.items():
            config = compose([*words, "early_stopping_patience=0", "device=cpu"])
            expected = estimate_run(config, splits).seconds
            model, begun = new_model(config, splits), time.perf_counter()
            fit(model, splits, **training_arguments(config))
            ratios[name].append(expected / (time.perf_counter() - begun))
    found = {name: median(values) for name, values in ratios.items()}
    good = all(abs(ratio - 1) <= OFF for ratio in found.values())
    print(json.dumps({"benchmark": "forecast", "good": good, "ratio": found, "all": ratios, "rounds": rounds, "machine": facts}))
    sys.exit(not good)
