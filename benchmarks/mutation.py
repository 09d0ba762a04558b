"""Do the notebooks' tests notice a fault in the code? The metrics and the splitting of data are changed in one place at a time.

    python benchmarks/mutation.py [MODULE ...] [--sample 60] [--seed 1]

mutmut's operators make the faults (`pip install mutmut==3.8.1`). A fault is killed if a cell of the module's own notebook fails with it, or takes too long. Each is
tried in a process forked from one that has imported all libraries and nothing of the package. Left out are texts in other case, docstrings and the wording of
errors; of the notebooks, cells that take more than half a second, so that more faults are killed in truth. A row of the table: module, cells left out, possible
faults, tried, killed, score, seconds. The last line is one JSON object; the exit code is 1 if a module's score is below 0.9."""
import argparse
import ast
import contextlib
import gc
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
import literate  # noqa: E402
from literate import load_module, module_of, notebooks, PACKAGE, run_against_module, run_cell  # noqa: E402

MODULES = ["data.split_checks", "data.splitting", *("metrics." + name for name in (
    "intervals", "classification", "calibration", "temperature", "abstention", "slices", "summary", "out_of_distribution", "paired_tests",
    "comparison", "learning_curve", "robustness"))]
LEAST = 0.9  # share of the faults that a module's notebook must kill
LIBRARIES = "IPython", "matplotlib.pyplot", "scipy.optimize", "scipy.sparse.csgraph", "scipy.special", "scipy.stats", "sklearn.datasets", "torchvision"
SLOW = 0.5  # seconds; cells that take longer, which are simulations, are left out, and so are those that need them
PATIENCE = 5  # a fault may take as many times as long as the sound module


class Fault(NamedTuple):
    "A module's source with one change."
    line: int
    before: str
    after: str
    source: str


def faults(source: str) -> Iterator[Fault]:
    "Return what mutmut makes of a module, except changes of text alone."
    import libcst
    from libcst import matchers
    from mutmut.mutation.file_mutation import deep_replace, MutationVisitor
    from mutmut.mutation.mutators import mutation_operators
    from mutmut.mutation.pragma_handling import IgnoredCode
    visitor = MutationVisitor(mutation_operators, IgnoredCode(set(), set(), set()))
    module = libcst.MetadataWrapper(libcst.parse_module(source)).visit(visitor)
    wording = {text for place in matchers.findall(module, matchers.Raise()) for text in matchers.findall(place, matchers.SimpleString())}
    for one in visitor.mutations:
        if isinstance(one.original_node, libcst.SimpleString) and (one.original_node in wording or "XX" not in one.mutated_node.value):
            continue  # mutmut puts XX around a text, or changes its case
        changed = deep_replace(module, one.original_node, one.mutated_node).code
        if without_docstrings(changed) == without_docstrings(source):
            continue
        lines = [text.splitlines() for text in (source, changed)]
        first = next(i for i, (old, new) in enumerate(zip(*lines)) if old != new)
        last = next(i for i, (old, new) in enumerate(zip(*(reversed(side) for side in lines))) if old != new)
        yield Fault(first + 1, *(" ".join(line.strip() for line in side[first:len(side) - last]) for side in lines), changed)


def without_docstrings(source: str) -> str:
    "Return what Python makes of a module, without docstrings and the list of its public names."
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            node.body = [one for one in node.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)
                                                          or isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "__all__")]
    return ast.dump(tree)


class Changed(importlib.machinery.SourceFileLoader):
    "Imports one module from another source than its file's."
    def __init__(self, name: str, path: str, source: str):
        super().__init__(name, path)
        self.source = source

    def get_code(self, name: str):
        "Return the code of the changed source."
        return compile(self.source, self.path, "exec")

    def find_spec(self, name: str, *_):
        "Return itself for its own module only."
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None


def in_child(name: str, notebook: Path, source: str, limit: float, left_out: set[str], look: bool = False) -> list[str]:
    """Run a notebook's cells, but those left out, against a module with this source in a process of its own; return why it fails.

    With `look`, go on after a failure, and return the cells that fail or are slow."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        found = []

        def run(cell: str, names: dict, where: str) -> None:
            begun = time.process_time()
            try:
                if where not in left_out:
                    run_cell(cell, names, where)
            except Exception:
                if not look:
                    raise
                found.append(where)
            if time.process_time() - begun > SLOW:
                found.append(where)

        with contextlib.suppress(BaseException):
            os.chdir(notebook.parent)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            signal.setitimer(signal.ITIMER_PROF, limit)
            sys.meta_path.insert(0, Changed(f"{PACKAGE}.{name}", str(ROOT / PACKAGE / (name.replace(".", "/") + ".py")), source))
            literate.run_cell, literate.render = run, repr  # figures are made but not drawn
            try:
                run_against_module(notebook, load_module(name))
            except BaseException as problem:
                os.write(writer, f"{problem!r:.1000}".encode())
                os._exit(1)
            os.write(writer, "\n".join(found).encode() if look else b"")
            os._exit(0)
        os._exit(2)
    os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as said:
        why = said.read().splitlines()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return why or ([f"ended with {status}"] if status else [])


def seconds() -> float:
    "Return the processor time of the processes that have ended."
    return os.times().children_user + os.times().children_system


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("modules", nargs="*", default=MODULES, metavar="MODULE", help="e.g. metrics.intervals; all by default")
    parser.add_argument("--sample", type=int, default=60, help="most faults of a module, drawn at random")
    parser.add_argument("--seed", type=int, default=1, help="of the drawing")
    options = parser.parse_args()
    if not importlib.util.find_spec("mutmut"):
        print("mutmut is not installed")
        sys.exit(77)
    os.environ["MPLBACKEND"] = "Agg"
    for library in LIBRARIES:
        importlib.import_module(library)
    sys.modules["IPython"].InteractiveShell.instance()
    gc.freeze()
    found, where = {}, {module_of(path): path for path in notebooks()}
    for name in options.modules:
        source = (ROOT / PACKAGE / (name.replace(".", "/") + ".py")).read_text()
        begun = seconds()
        left_out = set(in_child(name, where[name], source, 600, set(), look=True))
        left_out |= set(in_child(name, where[name], source, 600, left_out, look=True))  # what needs the slow cells
        sound = seconds()
        if why := in_child(name, where[name], source, 600, left_out):
            sys.exit(f"{name} fails without a fault: {why}")
        limit, every = 10 + PATIENCE * (seconds() - sound), list(faults(source))
        drawn = random.Random(options.seed).sample(every, min(options.sample, len(every)))
        survivors = [one for one in sorted(drawn) if not in_child(name, where[name], one.source, limit, left_out)]
        found[name] = {"faults": len(every), "tried": len(drawn), "killed": len(drawn) - len(survivors), "score": 1 - len(survivors) / len(drawn)}
        print(f"| {name} | {len(left_out)} | {len(every)} | {len(drawn)} | {len(drawn) - len(survivors)} | {found[name]['score']:.2f} | {seconds() - begun:.0f} s", flush=True)
        for one in survivors:
            print(f"    line {one.line}:\n      - {one.before}\n      + {one.after}", flush=True)
    good = all(one["score"] >= LEAST for one in found.values())
    print(json.dumps({"benchmark": "mutation", "good": good, "modules": found}))
    sys.exit(not good)


if __name__ == "__main__":
    main()
