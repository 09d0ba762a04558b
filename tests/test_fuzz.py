"Files of strangers, by the thousand: none may crash, hang or write to the terminal what it likes. IC_FUZZ=100000 reads more of them."
import os

import pytest
from formats import sample
from fuzz import KINDS, read, share, soon

from image_classifier.models import MODELS

FILES = int(os.environ.get("IC_FUZZ", 2000))


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(MODELS, "sample", sample)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_file_holds_only_documented_errors_come_out(kind):
    counts = read(kind, share(kind, FILES))
    assert counts["refused"] > counts.total() / 3 and counts["read"] > 0, counts


@pytest.mark.parametrize("kind", KINDS)
def test_the_honest_file_is_read(kind, tmp_path, recwarn):
    KINDS[kind].reader(KINDS[kind].honest, tmp_path)


def test_an_undocumented_error_or_a_hang_is_found(monkeypatch):
    "The test itself is tested."
    def stumbles(data, place):
        if len(data) % 7 == 3:
            raise IndexError("of the parser")
    monkeypatch.setitem(KINDS, "weights", KINDS["weights"]._replace(reader=stumbles))
    with pytest.raises(IndexError, match="of the parser"):
        read("weights", 100)
    for limits in ({"work": 0.1}, {"waiting": 0.1}):
        with pytest.raises(AssertionError, match="not done in time"), soon(**limits):
            while True:
                pass
