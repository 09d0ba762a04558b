"""The reference: its schemas fit the files that the library writes, and name no key that no file has. That its tables are those of the configuration
and of the commands is compared when its notebooks run."""
import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from folders import picture, save
from jsonschema import Draft202012Validator
from literate import cells, NBS

from image_classifier.cli import main
from image_classifier.quality import Expectation, Suite, write_suite

SCHEMAS = {path.name.removesuffix(".schema.json"): json.loads(path.read_text(encoding="utf-8"))
           for path in sorted((NBS / "reference" / "schemas").glob("*.json"))}
FILES = {"metrics": "**/metrics.json", "environment": "**/environment.json", "history": "**/history.jsonl", "checkpoint": "**/state.json",
         "classifier": "**/classifier.json", "exports": "**/exports.json", "manifest": "**/MANIFEST.json", "comparison": "**/comparison.json",
         "learning_curve": "**/learning_curve.json", "suite": "**/suite.json", "marker": "**/.image_classifier.json", "predictions": "**/printed.json"}

# Keys that the runs below do not have, with what they would need.
ELSEWHERE = {"metrics": {"fine_tuning": "pretrained weights", "pretrained": "the same", "top5_accuracy": "more than 10 classes",
                         "choice": "model=auto in a run of its own"},
             "environment": {"pretrained": "pretrained weights"},
             "comparison": {"seed_share": "several seeds on a side"}}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, list]:
    "What a few commands write, by the name of its schema."
    root = tmp_path_factory.mktemp("reference")
    assert main(f"learning-curve epochs=1 batch_size=512 target_accuracy=0.2 device=cpu --shares 0.1,0.2,0.3,0.4 --out {root / 'curve'}".split()) == 0
    runs = sorted((root / "curve").glob("share_*"))
    save(root / "photo.png", picture(0))
    (root / "broken.png").write_bytes(b"no picture")
    write_suite(root / "suite.json", Suite(3, (Expectation("path", "present"), Expectation("width", "between", (8, 8)))))
    for words in (f"export {runs[0]}", f"compare {runs[0]} {runs[1]} --out {root / 'two'}", f"compare {runs[0]} {runs[1]} {runs[2]} --out {root / 'three'}"):
        assert main(words.split()) == 0, words
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main(["predict", str(runs[0]), str(root / "photo.png"), str(root / "broken.png"), "--json"])
    (root / "printed.json").write_text(printed.getvalue().splitlines()[-1])
    return {name: [json.loads(line) for path in root.glob(pattern) for line in contents(path)] for name, pattern in FILES.items()}


def contents(path: Path) -> list[str]:
    "The JSON texts in a file."
    text = path.read_text(encoding="utf-8")
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def keys(schema: dict, value: object, root: dict) -> Iterator[tuple[int, str]]:
    "The keys of a value that a schema names, each with the object that names it."
    schema = root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    for part in schema.get("oneOf", []):
        if Draft202012Validator(part | {"$defs": root.get("$defs", {})}).is_valid(value):
            yield from keys(part, value, root)
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in schema.get("properties", {}):
                yield id(schema), key
                yield from keys(schema["properties"][key], inner, root)
            elif isinstance(schema.get("additionalProperties"), dict):
                yield from keys(schema["additionalProperties"], inner, root)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for inner in value:
            yield from keys(schema["items"], inner, root)


def named(schema: object) -> Iterator[tuple[int, str]]:
    "Every key that a schema names, each with the object that names it."
    if isinstance(schema, dict):
        for name, part in schema.items():
            if name == "properties":
                yield from ((id(schema), key) for key in part)
                for inner in part.values():
                    yield from named(inner)
            else:
                yield from named(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from named(part)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_files_are_as_their_schema_says(name, written):
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert written[name]
    problems = [f"{'.'.join(map(str, problem.path))}: {problem.message}" for found in written[name]
                for problem in Draft202012Validator(SCHEMAS[name]).iter_errors(found)]
    assert not problems


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_names_no_key_that_no_file_has(name, written):
    schema = SCHEMAS[name]
    for key in ELSEWHERE.get(name, {}):
        schema = drop(schema, key)
    found = {pair for value in written[name] for pair in keys(schema, value, schema)}
    assert not [key for where, key in named(schema) if (where, key) not in found]


def drop(schema: object, key: str) -> object:
    "A schema without a key."
    if isinstance(schema, dict):
        return {name: ({inner: drop(value, key) for inner, value in part.items() if inner != key} if name == "properties" else drop(part, key))
                for name, part in schema.items()}
    return [drop(part, key) for part in schema] if isinstance(schema, list) else schema


def test_the_page_says_which_files_have_a_format():
    page = " ".join(cell.source for cell in cells(NBS / "reference" / "file_formats.ipynb", "markdown")).replace("\n", " ")
    told = re.search("These have a `format`, the version of their layout: (.*?)[.] These have none: (.*?)[.] A program", page)
    formats = {True: set(), False: set()}
    for schema in SCHEMAS.values():
        formats[all("format" in part.get("required", []) for part in schema.get("oneOf", [schema]))].add(schema["title"].rpartition("/")[2])
    assert [set(re.findall("`(.*?)`", names)) for names in told.groups()] == [formats[True], formats[False]]


def test_every_schema_refuses_a_key_that_it_does_not_name():
    "Otherwise a new key of a file would go undocumented."
    def objects(part):
        if isinstance(part, dict):
            yield from [part] if "properties" in part else []
            for inner in part.values():
                yield from objects(inner)
        elif isinstance(part, list):
            for inner in part:
                yield from objects(inner)
    assert not [f"{name}: {list(part['properties'])}" for name, schema in SCHEMAS.items() for part in objects(schema) if part["additionalProperties"] is not False]


@pytest.mark.parametrize("name, place, impossible", [
    ("metrics", "data/train", [-1, 1.5]), ("metrics", "$defs/measure/value", [-1]), ("metrics", "ood/images", [[], [1, 2]]),
    ("metrics", "abstention/threshold", [-0.1, 1.1]), ("history", "epoch", [0]), ("history", "valid_accuracy", [1.01, -0.01]),
    ("classifier", "architecture/channels", [0]), ("classifier", "architecture/name", [""]), ("classifier", "preprocess/mean", [[]]),
    ("classifier", "preprocess/std", [[0.0]]), ("checkpoint", "step", [-1]), ("environment", "threads", [0]),
    ("comparison", "$defs/difference/p_value", [1.1]), ("predictions", "predictions/items/confidence", [2]),
    ("manifest", "files", [{}, {"../../etc/passwd": {"size": 1, "sha256": "0" * 64}}, {"a/b": {"size": 1, "sha256": "0" * 64}}])])
def test_schemas_refuse_numbers_and_names_that_cannot_be(name, place, impossible):
    part = SCHEMAS[name]
    for key in place.split("/"):
        part = part[key] if key in part else part["properties"][key]
    for value in impossible:
        assert not Draft202012Validator(part).is_valid(value), value
