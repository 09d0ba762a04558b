"`--import mine.py`: the commands find what a user's file registers, nothing else runs it, and its errors name its lines."
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from image_classifier.cli.app import main
from image_classifier.config import Hyperparameters
from image_classifier.core import ConfigError, DivergedError, code_place, import_code
from image_classifier.data import AUGMENTATIONS, READERS, load_data
from image_classifier.models import MODELS, build_model
from image_classifier.runs import run_report
from image_classifier.training import OPTIMIZERS, fit, register_optimizer, snapshot

MINE = """
import numpy as np
import torch
from torch import nn
from image_classifier.models import register_model
from image_classifier.data import register_augmentation, register_reader, Source
from image_classifier.training import register_optimizer

@register_model("my_net")
def my_net(architecture):
    return nn.Sequential(nn.Flatten(), nn.Linear(architecture.channels * architecture.size ** 2, architecture.classes))

@register_reader("my_data")
def my_data(config):
    images, targets = np.random.default_rng(0).integers(0, 256, (400, 1, 8, 8), np.uint8), np.arange(400) % 2
    images[targets == 1, :, :4] //= 4
    return Source(("even", "shaded"), [str(i) for i in range(400)], targets, ["train"] * 400, images)

@register_augmentation("fade")
def fade(pixels, draws, strength):
    return pixels * (1 - strength * draws[0][:, None, None, None])

@register_optimizer("my_sgd")
def my_sgd(model, hyperparameters):
    return torch.optim.SGD(model.parameters(), lr=hyperparameters.learning_rate)
"""
WORDS = ["data.name=my_data", "model=my_net", "augment.extra=[fade:0.3]", "hyperparameters.optimizer=my_sgd", "epochs=1", "lr=0.1"]
REGISTRIES = (MODELS, READERS, AUGMENTATIONS, OPTIMIZERS)


@pytest.fixture
def forget(monkeypatch):
    "Return a function that makes all registries what they were; it is called after the test, too."
    before, path = [dict(table) for table in REGISTRIES], list(sys.path)

    def restore():
        for table, entries in zip(REGISTRIES, before):
            table.clear()
            table.update(entries)
        sys.path[:] = path
    yield restore
    restore()


@pytest.fixture
def mine(tmp_path, monkeypatch, forget):
    "The file `mine.py` in the working folder."
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A finished run of what `mine.py` registers, made by the command."
    place, before = tmp_path_factory.mktemp("made"), [dict(table) for table in REGISTRIES]
    (place / "mine.py").write_text(MINE)
    assert main(["train", "--import", str(place / "mine.py"), *WORDS, "--out", str(place / "run")]) == 0
    for table, entries in zip(REGISTRIES, before):
        table.clear()
        table.update(entries)
    return place / "run"


def test_commands_find_what_a_file_registers_and_refuse_it_without_the_file(run, mine, forget, capfd):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("image.png")
    for words in (["train", *WORDS, "--out", str(run)], ["evaluate", str(run)], ["predict", str(run), "image.png"]):
        assert main(words) in (2, 4), words
        assert main([*words, "--import", "mine.py"]) == 0, words
        forget()
    capfd.readouterr()
    assert main(["models", "--import=mine.py", "--json"]) == 0
    assert "my_net" in json.loads(capfd.readouterr().out)["models"]


def test_path_of_the_file_is_stored_nowhere(run):
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 10 and not [path for path in files if b"mine" in path.read_bytes() and path.suffix != ".png"]


def test_run_is_not_returned_for_an_augmentation_that_was_edited(run, mine, capfd):
    mine.write_text(MINE.replace("1 - strength", "1 - 0.5 * strength"))
    assert main(["train", "--import", "mine.py", *WORDS, "--out", str(run)]) == 2
    assert "the run was made with the augmentation fade" in capfd.readouterr().err


def test_report_kernel_imports_the_file(mine):
    cells = ["epochs: int = 1", "from image_classifier.models import MODELS\nassert 'my_net' in MODELS"]
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": "python3", "language": "python", "display_name": "p"}},
                "cells": [{"cell_type": "code", "id": str(i), "metadata": {"tags": ["parameters"]} if i == 0 else {}, "source": source,
                           "outputs": [], "execution_count": None} for i, source in enumerate(cells)]}
    (mine.parent / "own.ipynb").write_text(json.dumps(notebook))
    assert run_report("own.ipynb", run_dir="made", imports=["mine.py"]).page.is_file()


@pytest.mark.parametrize("text, line", [("x = 1\ny = z", "NameError: name 'z' is not defined (mine.py line 2). correct"),
                                        ("\nx = = 1", "SyntaxError: invalid syntax (mine.py line 2)"), ("import nothing_there", "nothing_there"),
                                        ("raise SystemExit('no')", "SystemExit: no (mine.py line 1)"), ("import sys; sys.exit(0)", "SystemExit"),
                                        ("from image_classifier.models import register_model\nregister_model('resnet')(print)", "exists already")])
def test_file_that_cannot_be_imported_ends_in_one_line(text, line, mine, capfd):
    mine.write_text(text)
    assert main(["models", "--import", "mine.py"]) == 2
    error = capfd.readouterr().err
    assert line in error and error.count("\n") == 1 and "internal error" not in error


@pytest.mark.parametrize("path", ["missing.py", "folder", "notes.txt", "bad\nname.py"])
def test_what_is_no_python_file_is_refused(path, mine, capfd):
    (mine.parent / "folder").mkdir()
    (mine.parent / "notes.txt").write_text("x = 1")
    assert main(["models", "--import", path]) == 2
    assert "name a .py file" in capfd.readouterr().err


def test_error_in_registered_code_names_its_file_and_is_no_internal_error(mine, capfd):
    mine.write_text(MINE.replace("return pixels * (1", "return pixels[::0] * (1"))
    assert main(["train", "--import", "mine.py", *WORDS, "--out", "run"]) == 2
    error = capfd.readouterr().err
    assert "the augmentation fade failed: ValueError: slice step cannot be zero (mine.py line " in error and "internal error" not in error


def test_two_files_of_the_same_name_do_not_replace_each_others_networks(mine):
    (mine.parent / "other").mkdir()
    other = mine.parent / "other" / "mine.py"
    other.write_text(MINE)
    import_code("mine.py")
    import_code("mine.py")  # again, as after an edit
    with pytest.raises(ConfigError, match="a network named my_net exists already"):
        import_code(other)
    assert code_place(ValueError()) == ""


@pytest.mark.parametrize("build", [torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adadelta, lambda parameters, lr: torch.optim.Adam(parameters, lr, fused=True)])
def test_any_optimizer_of_torch_trains_and_changes_nothing_after_a_loss_that_is_not_finite(build, mine):
    import_code(mine)
    register_optimizer("mine")(lambda model, h: build(model.parameters(), lr=h.learning_rate))
    splits, hyper = load_data("my_data"), Hyperparameters(num_epochs=1, batch_size=64, optimizer="mine", learning_rate=0.01)
    network = build_model("simple_cnn", channels=1, classes=2, size=8)
    before = snapshot(network)
    fit(network, splits, hyper)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in network.named_parameters())

    class Overflows(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.steps = torch.nn.Linear(64, 2), 0

        def forward(self, inputs):
            self.steps += self.training
            return self.body(inputs.flatten(1)) * (float("inf") if self.steps > 2 else 1)
    weights = []
    broken = Overflows()
    broken.body.weight.register_hook(lambda gradient: weights.append(broken.body.weight.detach().clone()))
    with pytest.raises(DivergedError, match="not finite at step 2"):
        fit(broken, splits, hyper)
    assert all(torch.isfinite(weight).all() for weight in weights) and torch.isfinite(broken.body.weight).all()
