"""The tutorials and how-to guides: every figure is described in words, and every command shown is one that exists."""
import re
import shlex

import nbformat
import pytest
from literate import NBS, directives, notebooks

from image_classifier.cli.app import COMMANDS, split_command
from image_classifier.config import ALIASES, keys, SECTIONS

GUIDES = {f"{path.parent.name}/{path.stem}": path for path in notebooks() if path.parent.parent == NBS and path.parent.name in ("tutorials", "howto")}
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)


@pytest.mark.parametrize("name", GUIDES)
def test_every_figure_is_described_for_readers_who_do_not_see_it(name):
    found = [cell for cell in nbformat.read(GUIDES[name], 4).cells if any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))]
    bare = [cell.source for cell in found if len(" ".join(directives(cell).get("fig-alt:", []))) < 30]
    assert not bare, "write `#| fig-alt: what the figure shows` on top of the cell"


def shown_commands(path):
    "The arguments of each `ic` in the shell blocks of a page."
    for cell in nbformat.read(path, 4).cells:
        for block in BLOCK.findall(cell.source) if cell.cell_type == "markdown" else []:
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["ic"] or "image_classifier.cli" in words:
                    yield words[1:] if words[0] == "ic" else words[words.index("image_classifier.cli") + 1:]


@pytest.mark.parametrize("name", GUIDES)
def test_every_command_shown_has_options_and_keys_that_exist(name):
    for words in shown_commands(GUIDES[name]):
        command, rest = split_command(words, COMMANDS)
        given = COMMANDS[command].make_context(command, rest).params
        known = {*ALIASES, *SECTIONS, *keys(), "seeds"}
        assert [word for word in given.get("overrides", ()) if word.partition("=")[0] not in known] == [], (name, words)


def test_a_wrong_command_would_be_found():
    assert list(shown_commands(GUIDES["tutorials/reading_a_report"]))[0][0] == "report"
    with pytest.raises(Exception, match="No such option"):
        COMMANDS["train"].make_context("train", ["--epochs", "3"])
