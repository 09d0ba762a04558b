"""The commands that README.md and the pages show: those of `ic` are parsed and their keys composed, README's are run on small images, and each that is
not run here is named with what runs it."""
import os
import re
import shlex
import shutil
from pathlib import Path

import click
import pytest
from folders import picture, save
from literate import cells, notebooks, ROOT

from image_classifier.cli import main
from image_classifier.cli.app import COMMANDS, split_command
from image_classifier.config import compose

# What is not run here, by words of the command, and where it is run.
ELSEWHERE = {
    "git clone": "needs the published repository", "cd ": "the same",
    "make ": ".ci/run calls report and test; test_project.py looks at the targets",
    "pip install": "the release workflow installs the wheel; test_project.py compares the requirements",
    "docker ": "needs an engine: benchmarks/images.py builds and runs the images",
    "curl ": "test_serving.py sends the same requests", "python -m http.server": "test_web.py serves the folder",
    "papermill ": "test_reports.py", "torchrun ": "test_distributed.py, with smaller data",
    "data=cifar10": "downloads; test_cli.py and test_learning_curve.py run the same on digits", "data=mnist": "downloads; test_readers.py reads a copy",
    "model.weights=": "test_pretrained.py", "finetune=probe": "test_fine_tuning.py", "max_minutes=": "takes minutes; test_training.py takes less",
    "ic report": "starts a kernel; test_reports.py", "ic labels": "trains five networks; test_label_errors.py",
    "data.corrections=": "test_corrections.py", "--suite": "test_expectations.py", "--slice": "test_cli.py", "--robustness": "test_cli.py",
    "ic export": "test_export.py", "ic serve": "test_serving.py", "--server": "test_serving.py", "ic keygen": "test_signing.py", "ic sign": "test_signing.py",
    "ic verify": "test_signing.py", "seeds=": "test_compare.py", "ic find-lr": "test_training_tools.py"}


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


def elsewhere(command: str) -> str:
    "What runs a command that is not run here."
    return next((reason for words, reason in ELSEWHERE.items() if words in command), "")


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
    keys = [word for word in given.get("overrides", ()) if not word.startswith(("seeds=", "runs="))]
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


@pytest.mark.parametrize("words", ELSEWHERE)
def test_what_is_not_run_is_still_shown(words):
    assert any(elsewhere(command) == ELSEWHERE[words] and words in command for _, command in SHOWN)


def test_the_tests_that_are_named_exist():
    named = {name for reason in ELSEWHERE.values() for name in re.findall(r"\b\w+\.py\b", reason)}
    assert not [name for name in named if not any(os.path.exists(ROOT / folder / name) for folder in ("tests", "benchmarks"))]
