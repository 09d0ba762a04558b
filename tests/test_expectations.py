"""What a user loses when expectations fail: false alarms, missed changes, hostile files, unsafe pages, data sent elsewhere."""
import html.parser
import json
import os
import re
import shlex
import subprocess
import sys
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("great_expectations")

from image_classifier.cli.data_commands import compare_with_suite
from image_classifier.core import ArtifactError, ConfigError, DataError
from image_classifier.quality import (bounds, check_expectations, COLUMNS, Expectation, EXPECTATION_KINDS, learn_suite,
                                      read_suite, repeats_bound, share_bounds, size_range, Suite, validate_suite, write_docs,
                                      write_suite)
from literate import ROOT

HOSTILE = ["<script>alert(1)</script>", "<img src=http://x.example/ onerror=alert(1)>", "=cmd()", "\x1b[31mred",
           "cat\u202egnp.exe", "x" * 10_000, "$column", "${HOME}", "$PARAMETER", "{{7*7}}",
           "{% include 'x' %}", "{title}", "a'b\"c<b>", "</td></table>&amp;", "\n<h1>news",
           "[a](javascript:alert(1))", "cat\udcff"]


def facts(images=400, seed=0, classes=("cat", "dog"), **changed):
    "A batch of images of many sizes and equally frequent classes."
    draw = np.random.default_rng(seed)
    sizes = {name: draw.integers(200, 500, images).tolist() for name in ("width", "height", "bytes")}
    labels = [classes[index] for index in draw.integers(0, len(classes), images)]
    return {"path": [f"{seed}/{number}.png" for number in range(images)], "label": labels, "split": ["train"] * images, **sizes,
            "mode": ["RGB"] * images, "hash": [f"{seed:016x}{number:016x}" for number in range(images)], **changed}


@pytest.fixture(scope="module")
def suite():
    return learn_suite(facts())


def failed(batch, suite):
    "The columns and kinds that failed."
    outcomes = validate_suite(batch, suite).outcomes
    return [(outcome.expectation.column, outcome.expectation.kind) for outcome in outcomes if not outcome.success]


# What changes in a batch are accepted


@pytest.mark.parametrize("images", [1, 2, 20, 399, 5000])
def test_batch_of_another_size_from_the_same_source_passes(suite, images):
    assert validate_suite(facts(images, seed=7), suite).success


@pytest.mark.parametrize("change, expected", [
    ({"width": [200] * 399 + [5000]}, ("width", "between")),
    ({"bytes": [200] * 399 + [0]}, ("bytes", "between")),
    ({"mode": ["RGB"] * 399 + ["CMYK"]}, ("mode", "one of")),
    ({"split": ["train"] * 399 + ["trian"]}, ("split", "one of")),
    ({"label": ["cat", "dog"] * 199 + ["cat", "Dog"]}, ("label", "one of")),
    ({"label": ["cat"] * 320 + ["dog"] * 80}, ("label", "shares")),
    ({"path": ["a.png"] * 2 + [f"{number}.png" for number in range(398)]}, ("path", "unique")),
    ({"hash": ["f" * 32] * 2 + [f"{number:032x}" for number in range(398)]}, ("hash", "repeats")),
    ({"hash": [f"{number:031x}" for number in range(400)]}, ("hash", "hexadecimal")),
    ({"hash": [f"{number:032x}\n" for number in range(400)]}, ("hash", "hexadecimal")),
    ({"height": [None] + [300] * 399}, ("height", "filled"))])
def test_one_change_gives_one_failure(suite, change, expected):
    assert failed(facts(**change), suite) == [expected]


def test_missing_column_is_reported_once(suite):
    batch = facts()
    del batch["label"], batch["path"]
    result = validate_suite(batch, suite)
    assert result.failures == [f"{name}: expected to exist, but there is no such column" for name in ("path", "label")]


def test_expectations_of_a_missing_column_fail():
    suite = Suite(9, (Expectation("path", "unique"), Expectation("label", "shares", {"cat": 9}),
                      Expectation("width", "between", [1, 2])))
    assert failed({"width": [1]}, suite) == [("path", "unique"), ("label", "shares")]
    assert failed({"mode": ["L"]}, suite) == [("path", "unique"), ("label", "shares"), ("width", "between")]


def test_equivalent_expectations_each_have_an_outcome():
    suite = Suite(9, (Expectation("hash", "unique"), Expectation("hash", "repeats", 0)))
    assert failed(facts(hash=["f" * 32] * 400), suite) == [("hash", "unique"), ("hash", "repeats")]


def test_missing_class_is_reported_if_the_batch_is_large_enough():
    suite = learn_suite(facts(1000, classes=("cat", "dog", "fox", "owl")))
    gone = {"classes": ("cat", "dog", "fox")}
    assert not failed(facts(12, seed=1, **gone), suite)
    assert failed(facts(200, seed=1, **gone), suite) == [("label", "shares")]
    line, = validate_suite(facts(200, seed=1, **gone), suite).failures
    assert re.search(r"1 of 4 classes fail: owl 0\.0% \(\d+\.\d% to \d+\.\d%\)$", line)


def test_only_more_repeats_than_in_the_reference_fail():
    def copied(images, repeats, seed=0):
        return facts(images, seed, hash=[f"{max(number, repeats - 1):032x}" for number in range(images)])
    suite = learn_suite(copied(1000, 20))
    assert not failed(copied(500, 12, 1), suite)
    assert failed(copied(500, 60, 1), suite) == [("hash", "repeats")]


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.1] * 10, [0.9, 0.05, 0.03, 0.02]])
@pytest.mark.parametrize("of, images", [(200, 20), (200, 20_000), (1000, 1000), (50_000, 50), (50_000, 50_000)])
def test_chance_alone_rarely_raises_an_alarm(shares, of, images, monkeypatch):
    "Without the margin for drift about one batch in 1,000 fails; with it, fewer."
    def alarms(batches):
        draw = np.random.default_rng(0)
        count = 0
        for reference, batch in zip(draw.multinomial(of, shares, batches), draw.multinomial(images, shares, batches) / images):
            low, high = share_bounds(reference, of, images)
            count += bool(((batch < low - 1e-12) | (batch > high + 1e-12)).any())
        return count / batches
    assert alarms(2000) <= 0.002
    monkeypatch.setattr(bounds, "DRIFT_LIMIT", 0.0)
    assert alarms(2000) <= 0.005


def test_drift_of_a_large_batch_is_found():
    low, high = share_bounds([5000, 5000], 10_000, 10_000)
    assert 0.4 < low[0] < 0.45 and 0.55 < high[0] < 0.6
    assert repeats_bound(0, 10_000, 10**6) == 0


@pytest.mark.parametrize("sizes, most", [("log-normal", 0.001), ("power law", 0.06), ("uniform", 0.0)])
def test_sizes_from_the_same_source_stay_in_the_range(sizes, most):
    "Two batches of 1,000 images each: how often does one leave the range learned from the other?"
    draw = np.random.default_rng(0)
    some = {"log-normal": lambda: np.exp(6 + 0.3 * draw.normal(size=1000)),
            "power law": lambda: 100 * np.exp(draw.exponential(0.3, 1000)),
            "uniform": lambda: draw.uniform(200, 4000, 1000)}[sizes]
    outside = 0
    for _ in range(1000):
        reference, batch = some().round(), some().round()
        smallest, largest = size_range(int(reference.min()), int(reference.max()))
        outside += bool(batch.min() < smallest or batch.max() > largest)
    assert outside / 1000 <= most


@pytest.mark.parametrize("change, words", [
    ({"hash": ["no hash"] * 400}, "cannot serve as a reference: hash: expected 32 or more hexadecimal digits"),
    ({"path": ["a.png"] * 400}, "cannot serve as a reference: path: expected unique values"),
    ({"label": [None] * 400}, "lacks values of label"), ({name: [] for name in COLUMNS}, "no images"),
    ({"mode": ["RGB"]}, "different lengths")])
def test_bad_reference_is_not_learned(change, words):
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        learn_suite(facts(**change))
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)


def test_60_000_images_take_seconds_even_if_all_fail():
    batch = facts(60_000, classes=[f"class {number}" for number in range(100)])
    suite = learn_suite(batch)
    values = {"path": "p", "label": "x", "mode": "L", "hash": "h", "width": 1, "height": 10**6}
    wrong = {**batch, **{name: [value] * 60_000 for name, value in values.items()}}
    for facts_of_one in (batch, wrong):
        begun = time.monotonic()
        validate_suite(facts_of_one, suite)
        assert time.monotonic() - begun < 15


# The file


def test_suite_reads_back_and_equal_facts_give_equal_bytes(tmp_path, suite):
    write_suite(tmp_path / "one.json", suite)
    write_suite(tmp_path / "two.json", learn_suite(facts()))
    assert read_suite(tmp_path / "one.json") == suite
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert json.loads((tmp_path / "one.json").read_bytes())["expectations"][0] == {"column": "path", "expect": "present"}


def test_any_names_are_learned_stored_and_validated(tmp_path):
    batch = facts(classes=HOSTILE, path=[name + str(number) for name in HOSTILE[:16] for number in range(25)])
    write_suite(tmp_path / "suite.json", learn_suite(batch))
    assert validate_suite(batch, read_suite(tmp_path / "suite.json")).success
    result = validate_suite({**batch, "mode": HOSTILE * 23 + HOSTILE[:9]}, read_suite(tmp_path / "suite.json"))
    assert len(result.failures) == 1 and result.failures[0].isprintable() and len(result.failures[0]) < 1000


GOOD = {"format": 1, "images": 9, "expectations": [{"column": "path", "expect": "unique"}]}


def entry(**parts):
    return {**GOOD, "expectations": [{"column": "label", "expect": "one of", "value": ["cat"], **parts}]}


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 1, "images": NaN, "expectations": []}', b"[" * 100_000,
    b'{"format": 1' + b"0" * 5000 + b"}",
    {}, {**GOOD, "format": 2}, {**GOOD, "format": True}, {**GOOD, "format": "1"}, {**GOOD, "images": 0}, {**GOOD, "images": -1},
    {**GOOD, "images": 1.0},
    {**GOOD, "images": True}, {**GOOD, "images": 1 << 53 | 1}, {**GOOD, "name": "mine"}, {**GOOD, "expectations": []},
    {**GOOD, "expectations": {}},
    {**GOOD, "expectations": ["unique"]}, {**GOOD, "expectations": [[]]}, {**GOOD, "expectations": GOOD["expectations"] * 2},
    {"format": 1, "images": 9},
    # files of Great Expectations, and attempts to make it run code
    {"name": "x", "expectations": [{"type": "expect_column_values_to_be_unique", "kwargs": {"column": "path"}}], "meta": {}},
    {**GOOD, "expectations": [{"type": "unexpected_rows_expectation",
                               "kwargs": {"unexpected_rows_query": "SELECT * FROM {batch}"}}]},
    entry(expect="unexpected_rows_expectation"), entry(expect="UnexpectedRowsExpectation"), entry(expect="__class__"),
    entry(expect=["one of"]), entry(expect=None),
    entry(column="label; DROP TABLE x"), entry(column="where"), entry(column=None), entry(column=["label"]), entry(column={}),
    entry(row_condition="__import__('os')"),
    entry(value=json.loads("[" * 700 + "]" * 700)), entry(column=json.loads("[" * 700 + "]" * 700)),
    {**GOOD, "expectations": [json.loads("[" * 700 + "]" * 700)]},
    entry(kwargs={"mostly": 0}), entry(meta={}), entry(mostly=0.5),
    entry(value=None), entry(value=[]), entry(value="cat"), entry(value=[1]), entry(value=[["cat"]]),
    entry(value={"$PARAMETER": "x"}), entry(value=["\ud800"]),
    entry(expect="unique"), entry(expect="unique", value=0), entry(expect="hexadecimal", value="(a+)+$"),
    entry(expect="between"), entry(expect="between", value=[1]),
    entry(expect="between", value=[1, 2, 3]), entry(expect="between", value=[2, 1]), entry(expect="between", value=[0.5, 1]),
    entry(expect="between", value=[-1, 1]),
    entry(expect="between", value=[1, 10**400]), entry(expect="between", value=[False, True]),
    entry(expect="between", value=["2020", "2021"]),
    entry(expect="repeats", value=10), entry(expect="repeats", value=-1), entry(expect="repeats", value=0.5),
    entry(expect="repeats"),
    entry(expect="shares", value={}), entry(expect="shares", value={"cat": 10}), entry(expect="shares", value={"cat": 0.5}),
    entry(expect="shares", value=[1]),
    entry(expect="shares", value={"\udcff": 1})],
    ids=lambda content: f"{content!s:.60}" if "[[[[" not in str(content) else "deep")
def test_hostile_suite_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "suite.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(ArtifactError) as caught:
        read_suite(path)
    line = str(caught.value)
    assert caught.value.exit_code == 4 and str(path) in line and line.isprintable() and len(line) < 600


def test_suite_that_is_not_a_plain_file_is_refused(tmp_path, suite):
    write_suite(tmp_path / "suite.json", suite)
    (tmp_path / "link.json").symlink_to(tmp_path / "suite.json")
    os.truncate(tmp_path / "suite.json", 17 << 20)
    for name in ("link.json", "suite.json", "gone.json", "."):
        with pytest.raises(ArtifactError):
            read_suite(tmp_path / name)


VALUES = {"one of": ["cat"], "between": [1, 2], "repeats": 1, "shares": {"cat": 3, "$x": 0}}


@pytest.mark.parametrize("kind", EXPECTATION_KINDS)
def test_every_kind_on_every_column_has_an_outcome(kind, tmp_path):
    "A file may name the class shares of a width: that fails, it does not crash."
    suite = Suite(9, tuple(Expectation(column, kind, VALUES.get(kind)) for column in COLUMNS))
    odd = facts(6, label=[None, "cat", "", "$x", "<b>", "cat"], width=[1, None, 2, 3, 4, 5],
                height=["1", 2, 3.5, None, float("nan"), True], mode=[None] * 6)
    for batch in (facts(6), odd, {"width": [1]}):
        result = validate_suite(batch, suite)
        assert len(result.outcomes) in (len(COLUMNS), len([name for name in COLUMNS if name in batch]))
        assert all(line.isprintable() for line in result.failures)
        write_docs(result, tmp_path)
    write_docs(suite, tmp_path)


# The page


class Page(html.parser.HTMLParser):
    "The elements, attributes and text of a page."

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def pages(tmp_path):
    batch = facts(classes=HOSTILE)
    suite = learn_suite(batch)
    wrong = {name: ((HOSTILE[3 * turn:] + HOSTILE[:3 * turn]) * 24)[:400]
             for turn, name in enumerate(("path", "label", "split", "mode", "hash"))}
    wrong["label"] = [name + "!" for name in wrong["label"]]
    result = validate_suite(facts(width=["x"] * 400, height=[None] * 400, **wrong), suite)
    assert len(result.failures) > 8
    return [write_docs(found, tmp_path / "docs") for found in (suite, result)]


def test_page_is_self_contained_and_escapes_names(tmp_path):
    for path in pages(tmp_path):
        text = path.read_text(encoding="utf-8")
        page = Page(text)
        assert page.tags <= {"html", "head", "meta", "title", "style", "body", "main", "h1", "p", "div", "strong", "ul", "li",
                             "table", "tr", "th", "td", "footer"}
        loading = ("src", "href", "srcset", "action", "background", "data")
        assert not [name for name, _ in page.attributes if name in loading or name.startswith("on")]
        assert not re.search(r"url\(|@import|//[a-z]+\.[a-z]", re.sub(r"http://x\S*", "", text)), "the page would make a request"
        assert "default-src 'none'" in text
        for name in ("<script>alert(1)</script>", "=cmd()", r"\x1b[31mred", r"cat\u202egnp.exe", "{{7*7}}", "${HOME}", "$column"):
            assert name in page.text
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]", text)
        assert "x" * 100 not in text and "&amp;lt;" not in text and "$$" not in text
        assert os.environ["HOME"] not in text


def test_page_shows_what_was_expected_and_found(tmp_path, suite):
    page = Page(write_docs(validate_suite(facts(mode=["RGB"] * 398 + ["L", "P"]), suite), tmp_path).read_text())
    assert "400 images meet 25 of 26 expectations" in page.text and "2 of 400 (0.5%)" in page.text
    assert "L (0/398.png)" in page.text and page.text.count("✗") == 1 and page.text.count("✓") == 25
    page = Page(write_docs(suite, tmp_path).read_text())
    assert "Learned from 400 images" in page.text and "one of cat, dog" in page.text


# Learn, validate, alert


def test_learn_then_pass_then_fail_with_an_alert(tmp_path, capfd):
    file, docs, received = tmp_path / "suite.json", tmp_path / "docs", tmp_path / "received.json"
    hook = shlex.join([sys.executable, "-c", f"import sys; open({str(received)!r}, 'w').write(sys.stdin.read())"])
    assert isinstance(check_expectations(facts(), file, docs, hook), Suite)
    stored = file.read_bytes()
    assert check_expectations(facts(seed=1), file, docs, hook).refusal() is None and not received.exists()
    result = check_expectations(facts(mode=["L"] * 400), file, docs, hook)
    refusal = result.refusal(file)
    assert isinstance(refusal, DataError) and refusal.exit_code == 3
    assert str(file) in str(refusal) and "mode: expected RGB" in str(refusal)
    message = json.loads(received.read_text())
    assert message["failures"] == result.failures and not message["success"]
    assert message["text"].startswith("400 images meet 25 of 26")
    assert file.read_bytes() == stored and sorted(path.name for path in docs.glob("*.html")) == ["suite.html", "validation.html"]
    assert capfd.readouterr() == ("", "")


def test_a_failure_is_told_once(tmp_path):
    for mode in ("RGB", "L"):
        found = SimpleNamespace(facts=SimpleNamespace(_asdict=lambda mode=mode: facts(mode=[mode] * 400)))
        result = compare_with_suite(found, str(tmp_path / "suite.json"), None, None)
    assert result.text.count("mode: expected RGB") == 1 and "expected RGB" not in str(result.error)
    assert str(result.error).startswith("400 images meet 25 of 26 expectations (") and result.error.exit_code == 3


def test_failing_hook_does_not_hide_the_failures(tmp_path):
    check_expectations(facts(), tmp_path / "suite.json")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hook = shlex.join([sys.executable, "-c", "raise SystemExit(9)"])
        result = check_expectations(facts(mode=["L"] * 400), tmp_path / "suite.json", hook=hook)
    assert result.failures and ["exit code 9" in str(warning.message) for warning in caught] == [True]


@pytest.mark.parametrize("options", [{"hook": "no-such-command"}, {"docs": "/proc/docs"}])
def test_wrong_option_is_reported_before_the_work(tmp_path, options):
    with pytest.raises(ConfigError):
        check_expectations(facts(), tmp_path / "suite.json", **options)
    assert not (tmp_path / "suite.json").exists()


@pytest.mark.parametrize("module", ["pandas", "great_expectations"])
def test_missing_extra_is_named_in_the_error(monkeypatch, suite, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'literate-image-classifier[expectations]'")):
        validate_suite(facts(), suite)


# Side effects


ALONE = """
import socket, sys
def refused(*args, **kwargs):
    sys.stdout.write(f"a connection: {args}")
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refused
from image_classifier.quality import expectations
assert not {"great_expectations", "pandas"} & set(sys.modules), "heavy imports must be lazy"
import logging, warnings
def settings():
    logger = logging.getLogger("great_expectations")
    return (list(warnings.filters), warnings.showwarning, logging.root.level, list(logging.root.handlers), logger.propagate,
            logger.level, list(logger.handlers))
before = settings()
facts = {"path": ["a", "b"], "label": ["cat", "dog"], "split": ["train"] * 2, "width": [1, 2], "height": [1, 2],
         "mode": ["L"] * 2, "bytes": [1, 2], "hash": ["a" * 32, "b" * 32]}
expectations.check_expectations(facts, sys.argv[1])
found = expectations.check_expectations({**facts, "width": ["x", None]}, sys.argv[1], docs=sys.argv[2])
assert len(found.failures) == 2, found.failures
assert before == settings()
warnings.warn("a warning of the program's own")
"""


def test_nothing_is_sent_printed_or_left_behind(tmp_path):
    "No connection, even if the environment enables analytics and the cloud; no output, no folder, no change to the process."
    places = {name: tmp_path / name for name in ("work", "home", "tmp", "out")}
    for place in places.values():
        place.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(places["home"]), "TMPDIR": str(places["tmp"]),
                   "PYTHONDONTWRITEBYTECODE": "1", "GX_ANALYTICS_ENABLED": "true", "GX_CLOUD_ACCESS_TOKEN": "t",
                   "GX_CLOUD_ORGANIZATION_ID": "00000000-0000-0000-0000-000000000000",
                   "XDG_CACHE_HOME": str(places["home"]), "XDG_CONFIG_HOME": str(places["home"])}
    command = [sys.executable, "-W", "always::UserWarning", "-c", ALONE, places["out"] / "suite.json", places["out"] / "docs"]
    done = subprocess.run(command,
                          cwd=places["work"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", done.stdout
    assert "a warning of the program's own" in done.stderr and len(done.stderr.splitlines()) <= 2, done.stderr
    assert [place.name for name in ("work", "home", "tmp") for place in places[name].iterdir()] == []
    assert sorted(path.name for path in places["out"].iterdir()) == ["docs", "suite.json"]
