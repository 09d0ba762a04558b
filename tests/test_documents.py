"""The commands that README.md and the pages show: those of `ic` are parsed and their keys composed, README's are run on small images, and each that is
not run here is named with what runs the like. Figures that a page repeats are compared."""
import ast
import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from folders import picture, save
from literate import cells, NBS, notebooks, ROOT

from image_classifier.cli import main
from image_classifier.cli.app import COMMANDS, split_command
from image_classifier.config import compose


class Elsewhere(NamedTuple):
    "A kind of command that is not run here."
    start: str  # how it begins
    word: str  # how one of its further words begins
    where: dict[str, str]  # file that runs the like: what stands in it
    why: str = ""


DIGITS = "downloads; the same on digits"
ELSEWHERE = [Elsewhere(*kind) for kind in [
    ("git clone ", "", {}, "needs the published repository"), ("cd image_classifier", "", {}, "the clone"),
    *((f"make {target}", "", {"tests/test_makefile.py": f'"{target}"'}) for target in ("report", "test", "lab", "export", "lock")),
    ("pip install", "-e", {".github/workflows/security.yml": "install --quiet --editable"}),
    ("pip install", "--require-hashes", {"Dockerfile": "pip install --require-hashes -r requirements/serve.txt"}),
    ("pip install", "literate-image-classifier[report]", {".github/workflows/release.yml": "dist/*.whl)[report,"}),
    ("docker build", "", {"benchmarks/images.py": 'return ["build"'}, "needs an engine"),
    ("docker run", "", {"benchmarks/images.py": '"run", "--network"'}, "needs an engine"),
    ("docker compose", "", {"tests/test_containers.py": '"compose.yaml"'}, "needs an engine; the file is read"),
    ("curl ", "http://127.0.0.1:8000/", {"tests/test_serving.py": "test_the_requests_that_the_pages_show_are_answered"}),
    ("python -m http.server", "", {"tests/test_web.py": "SimpleHTTPRequestHandler"}),
    ("papermill ", "", {"tests/test_reports.py": '"-m", "papermill"'}, "starts a kernel"),
    ("torchrun --nnodes", "", {}, "needs two machines"),
    ("torchrun --nproc-per-node 2", "", {"tests/test_distributed.py": '"image_classifier.cli", "train"'}, "starts processes"),
    ("ic estimate", "data=cifar10", {"tests/test_before_working.py": '["estimate", "epochs=1"'}, DIGITS),
    ("ic find-lr", "", {"tests/test_training_tools.py": '["find-lr", "data=digits"'}, DIGITS),
    ("ic learning-curve", "", {"tests/test_learning_curve.py": '["learning-curve", *WORDS'}, DIGITS),
    ("ic train", "seeds=", {"tests/test_compare.py": '"seeds=3"'}, "trains several times"),
    ("ic train", "target_accuracy=", {"tests/test_reference.py": "target_accuracy=0.2"}, DIGITS),
    ("ic train", "hyperparameters=speed", {"tests/test_readers.py": '"cifar10"', "tests/test_speednet.py": "speednet_trains"}, "downloads"),
    ("ic train", "data=mnist", {"tests/test_readers.py": '"mnist"', "tests/test_models.py": '"resnet"'}, "downloads"),
    ("ic train", "model.weights=DEFAULT", {"tests/test_pretrained.py": '"model.weights=DEFAULT"'}, "downloads"),
    ("ic train", "model=resnet18", {"tests/test_readers.py": '"cifar10"', "tests/test_models.py": '"resnet18"'}, "downloads"),
    ("ic train", "model.weights=runs/base", {"tests/test_pretrained.py": 'f"model.weights={tmp_path', "tests/test_fine_tuning.py": '"auto"'}),
    ("ic train", "finetune=probe", {"tests/test_fine_tuning.py": '"finetune=probe"'}, "needs weights"),
    ("ic train", "max_minutes=", {"tests/test_training.py": "max_minutes=minutes"}, "takes minutes"),
    ("ic train", "data.corrections=", {"tests/test_corrections.py": 'f"data.corrections={table('}),
    ("ic report", "", {"tests/test_reports.py": 'main(["report"'}, "starts a kernel"),
    ("ic labels review", "", {"tests/test_cli.py": 'ic("labels", "review"'}, "trains five networks"),
    ("ic check", "--suite", {"tests/test_expectations.py": "compare_with_suite("}),
    ("ic evaluate", "--slice", {"tests/test_cli.py": '"--slice", "tool"'}),
    ("ic evaluate", "--robustness", {"tests/test_cli.py": '"--robustness"'}),
    ("ic export", "web", {"tests/test_web.py": 'export(to="web")'}),
    *(("ic export", form, {"tests/test_export.py": f'"{form}"'}) for form in ("int8", "pte", "openvino")),
    ("ic export", "", {"tests/test_export.py": 'main(["export"'}),
    ("ic serve", "", {"tests/servers.py": '"image_classifier.cli", "serve"'}),
    ("ic predict", "--server", {"tests/test_serving.py": '"--server"'}),
    *((f"ic {name}", "", {"tests/test_cli.py": f'ic("{name}"'}) for name in ("keygen", "sign", "verify"))]]


def commands(text: str) -> list[str]:
    "The lines of a document's shell blocks, without comments."
    blocks = re.findall(r"^```(?:sh|bash|shell)\n(.*?)^```", text, re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [command for line in lines if (command := re.sub(r"(^|\s)#.*", "", line).strip())]


def documents() -> dict[str, str]:
    "The text of the documents beside README.md and of the pages, by name."
    pages = {path.relative_to(ROOT).as_posix(): "\n\n".join(cell.source for cell in cells(path, "markdown")) for path in notebooks()}
    return pages | {path.name: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("*.md"))}


SHOWN = {(name, command): None for name, text in documents().items() for command in commands(text)}
OURS = sorted({re.sub(r".* -m image_classifier.cli ", "ic ", command) for _, command in SHOWN if re.match("ic |torchrun ", command)})
README = list(dict.fromkeys(command for name, command in SHOWN if name == "README.md"))


def elsewhere(command: str) -> Elsewhere | None:
    "The kind of a command that is not run here."
    command = re.sub(r"^(\w+=\S+ )+", "", command)  # variables of the environment
    return next((kind for kind in ELSEWHERE if command.startswith(kind.start)
                 and any(word.startswith(kind.word) for word in shlex.split(command))), None)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    "A folder with the images, tables and runs that the documents name."
    root = tmp_path_factory.mktemp("documents")
    for number in range(40):
        color = "red" if number % 2 else "blue"
        for folder in ("path/to/images", "path/to/others", "path/to/photos"):
            file = root / folder / color / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            save(file, picture(number + 100 * (folder == "path/to/others")))
    for name in ("photo.jpg", "cat.jpg", "a.jpg", "b.jpg"):
        save(root / name, picture(7, side=16))
    (root / "labels.csv").write_text("file,label,camera\n" + "".join(f"path/to/images/{'red' if n % 2 else 'blue'}/{n}.png,{n % 2},x\n" for n in range(40)))
    return root


@pytest.mark.parametrize("command", OURS)
def test_a_command_in_the_docs_is_one_that_ic_takes(command, place, monkeypatch):
    monkeypatch.chdir(place)
    name, words = split_command(shlex.split(command)[1:], COMMANDS)
    try:
        given = COMMANDS[name].make_context(name, [word for word in words if word not in ("-h", "--help")]).params
    except click.UsageError as problem:
        pytest.fail(f"{command}: {problem.format_message()}")
    own = ("seeds=", "runs=", *(["runs/"] if name == "report" else []))  # no keys of the configuration; a run's folder
    keys = [word for word in given.get("overrides", ()) if not word.startswith(own)]
    compose([word.replace("runs/<name>", "runs/first") for word in keys])


def test_every_command_of_the_readme_is_run_here_or_named_with_what_runs_it(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    ran = []
    for command in README:
        if elsewhere(command):
            continue
        assert command.startswith("ic "), f"nothing is known of `{command}`: add it to ELSEWHERE"
        words = shlex.split(command.replace("runs/<name>", "runs/first"))[1:]
        code = main(words + (["epochs=1", "device=cpu"] if words[0] == "train" else []))
        assert code == 0, (command, capsys.readouterr().err)
        ran.append(command)
        if words[0] == "train" and "runs/first" in words:
            for name in ("second", "a", "b"):
                shutil.copytree(place / "runs" / "first", place / "runs" / name)
    assert len(ran) > 12


@pytest.mark.parametrize("kind", ELSEWHERE, ids=lambda kind: f"{kind.start} {kind.word}".strip())
def test_what_is_not_run_is_still_shown_and_runs_where_this_file_says(kind):
    assert any(elsewhere(command) == kind for _, command in SHOWN)
    assert kind.where or kind.why
    for name, text in kind.where.items():
        assert text in (ROOT / name).read_text(encoding="utf-8"), name


def test_the_figures_that_a_tutorial_repeats_are_those_of_the_benchmarks():
    source = next(cell.source for cell in cells(NBS / "tutorials" / "transfer_learning.ipynb") if "recorded = {" in cell.source)
    repeated = ast.literal_eval(re.search(r"recorded = (\{.*?\})", source)[1])
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in text.partition("## few_labels.py")[2].partition("\n## ")[0].splitlines() if line.startswith("|")]
    table = {name: tuple(float(row[column].split()[0]) for row in lines[2:]) for column, name in enumerate(lines[0]) if name in repeated}
    assert repeated == table and len(table) == 3
