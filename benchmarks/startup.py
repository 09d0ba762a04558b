"""How soon does it begin? The seconds of `ic --help`, of an import, and from `ic train` to its first step.

    python benchmarks/startup.py [ROUNDS]   # 5 by default

Each command is run in turn with a bare `python -c pass`, whose time the ratio divides by. The last line is one JSON object; the exit code
is 1 where a bar is missed."""
import json
import os
import platform
import subprocess
import sys
import time
from statistics import median

HELP, IMPORT = 0.5, 0.2  # seconds at most
COMMANDS = {"python": ["-c", "pass"], "import": ["-c", "import image_classifier"], "help": ["-m", "image_classifier.cli", "--help"],
            "torch": ["-c", "import torch"]}
FIRST_STEP = """
import sys, time
marks = [("python", time.time())]
def mark(name): marks.append((name, time.time()))
import torch; mark("import torch")
from image_classifier.config import compose
config = compose(["data=digits"]); mark("configuration (Hydra)")
from image_classifier.data import load_data
splits = load_data(config.data); mark("images (scikit-learn)")
from image_classifier.runs import train
from image_classifier.training import Callback; mark("import the other packages")
class First(Callback):
    def on_fit_start(self, state): mark("checks, lock, network")
    def on_step_end(self, state):
        mark("first step")
        raise KeyboardInterrupt
try: train(config, sys.argv[1], callbacks=[First()], splits=splits)
except KeyboardInterrupt: pass
import json; print(json.dumps(marks))
"""


def seconds(words: list[str]) -> float:
    "How long a command takes."
    begun = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return time.perf_counter() - begun


def first_step(folder: str) -> dict[str, float]:
    "The seconds from starting Python to the end of the first step, by what they went to."
    begun = time.time()
    answer = subprocess.run([sys.executable, "-c", FIRST_STEP, folder], check=True, capture_output=True, text=True).stdout
    marks = json.loads(answer.splitlines()[-1])
    return {name: at - before for (name, at), (_, before) in zip(marks, [("", begun), *marks])}


if __name__ == "__main__":
    import tempfile
    rounds, times, parts = int(sys.argv[1]) if len(sys.argv) > 1 else 5, {name: [] for name in COMMANDS}, []
    for _ in range(rounds + 1):  # the first one fetches files from the disk
        with tempfile.TemporaryDirectory() as folder:
            steps = first_step(os.path.join(folder, "run"))
        for name, words in COMMANDS.items():
            times[name].append(seconds(words))
        parts.append(steps)
    found = {name: median(values[1:]) for name, values in times.items()}
    spent = {name: median(part[name] for part in parts[1:]) for name in parts[0]}
    good = found["help"] <= HELP and found["import"] <= IMPORT
    print(json.dumps({"benchmark": "startup", "good": good, "seconds": found, "ratio": {name: value / found["python"] for name, value in found.items()},
                      "first_step": {"seconds": sum(spent.values()), "to_import_torch": sum(spent.values()) / found["torch"], "parts": spent}, "rounds": rounds,
                      "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()[0], "processor": platform.machine()}}))
    sys.exit(not good)
