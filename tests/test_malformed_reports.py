"Report notebooks that are JSON but malformed, and wrong arguments of a report, end in one line with exit code 2, before a kernel starts."
import json

import pytest

from image_classifier.cli.run_commands import notebook_arguments
from image_classifier.config import compose
from image_classifier.core import ConfigError
from image_classifier.runs import run_report
from image_classifier.training import Checkpoints

NONE = {}  # no metadata
CELL = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "n: int = 1\no: str = ''", "outputs": [], "execution_count": None}


@pytest.fixture
def notebook(tmp_path):
    "Return a function that writes a notebook."
    def _write(cells=(CELL,), metadata=NONE):
        (tmp_path / "report.ipynb").write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": list(cells)}))
        return str(tmp_path / "report.ipynb")
    return _write


@pytest.mark.parametrize("changes, message", [
    ({"source": 5}, "cell 2: its source must be a list of texts"), ({"source": None}, "cell 2: its source"), ({"source": [1]}, "cell 2: its source"),
    ({"metadata": "x"}, "cell 2: its metadata or outputs"), ({"metadata": None}, "cell 2: its metadata"), ({"outputs": "x"}, "cell 2: its metadata"),
    ({"metadata": {"tags": None}}, "cell 2: its tags must be a list"), ({"metadata": {"tags": 3}}, "cell 2: its tags"),
    ({"metadata": {"tags": "parameters"}}, "cell 2: its tags"), ({"cell_type": "cod"}, "cell 2: it is neither code nor text"),
    ({"cell_type": None}, "cell 2: it is neither"), ({"source": 'n="\ud800"'}, "half a character")])
def test_a_malformed_cell_is_named(notebook, changes, message):
    with pytest.raises(ConfigError, match=f"not a valid notebook: .*{message}"):
        run_report(notebook([CELL, {**CELL, **changes}]))


@pytest.mark.parametrize("cell", ["x", None, 3, []])
def test_a_cell_of_another_type_is_named(notebook, cell):
    with pytest.raises(ConfigError, match="cell 2: it is neither code nor text"):
        run_report(notebook([CELL, cell]))


@pytest.mark.parametrize("metadata", ["foo", None, [], {"kernelspec": "python3"}, {"kernelspec": [1]}, {"language_info": 3}])
def test_malformed_metadata_are_named(notebook, metadata):
    with pytest.raises(ConfigError, match="not a valid notebook: its metadata are malformed"):
        run_report(notebook(metadata=metadata))


@pytest.mark.parametrize("limit, message", [(-3, "must be a finite number > 0, got -3.0"), (0, "must be"), (float("nan"), "must be"), ("x", "needs a number")])
def test_a_time_limit_is_a_positive_number(notebook, limit, message):
    with pytest.raises(ConfigError, match=f"time_limit {message}"):
        run_report(notebook(), time_limit=limit)


@pytest.mark.parametrize("parameters", [{"o": "\ud800"}, {"o": "a\udcff"}])
def test_half_a_character_in_a_parameter_is_named(notebook, parameters):
    with pytest.raises(ConfigError, match="o cannot be '.*ud.*use text, finite numbers"):
        run_report(notebook(), parameters)


def test_a_parameter_given_twice_is_refused(notebook):
    with pytest.raises(ConfigError, match="n is given twice: n=3 and n=4. give it once"):
        notebook_arguments(notebook(), ["n=3", "o=a", "n=4"], None)
    assert notebook_arguments(notebook(), ["n=3", "o=a"], None) == {"parameters": {"n": "3", "o": "a"}}


# keys and folders


@pytest.mark.parametrize("given, meant", [("augment.flip=true", "augment.horizontal_flip"), ("flip=true", "augment.horizontal_flip"),
                                          ("patience=3", "early_stopping_patience"), ("hyperparameters.ema=0.9", "hyperparameters.ema_decay")])
def test_a_part_of_a_key_is_answered_with_the_key(given, meant):
    with pytest.raises(ConfigError, match=f"did you mean .*{meant}"):
        compose([given])


def test_a_file_named_like_a_checkpoint_is_left_alone(tmp_path):
    (tmp_path / "step_00000099").write_text("mine")
    assert Checkpoints(tmp_path).list_steps() == [] and Checkpoints(tmp_path).latest() is None
