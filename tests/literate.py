"""What the tests know about notebooks: which there are, what their directives say, and how to run one against its module."""
import ast
import configparser
import importlib
import linecache
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor, extract_directives
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
PACKAGE = "image_classifier"
PACKAGES = "core config data models metrics training quality inference runs serving monitoring cli".split()  # imports go from right to left
SETTINGS = configparser.ConfigParser(delimiters=["="])
SETTINGS.read(ROOT / "settings.ini", encoding="utf-8")
SETTINGS = SETTINGS["DEFAULT"]


def tracked() -> list[Path]:
    "The files of the project: what git knows, and what it would add."
    try:
        found = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as problem:
        pytest.skip(f"no git checkout: {problem}")
    return sorted(Path(name) for name in set(found.decode().split("\0")) if name and os.path.lexists(ROOT / name))


def cells(path: Path, kind: str = "code") -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == kind]


def copied(folder: Path, names: list[str] | None = None) -> list[Path]:
    "Copy the project, or the named files and folders of it, into `folder`, links as links; return the files."
    files = [file for file in tracked() if names is None or file.parts[0] in names]
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return files


def surface(package: str) -> dict[str, str]:
    "The public names of a package, each with the module that it is loaded from, as the stub beside `__init__.py` says."
    tree = ast.parse((ROOT / PACKAGE / package / "__init__.pyi").read_text(encoding="utf-8"))
    return {name.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names}


def notebooks(folder: Path = NBS) -> list[Path]:
    "Every notebook that belongs to the project, in the order of its path."
    return sorted(path for path in folder.rglob("*.ipynb")
                  if not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts))


def directives(cell: NotebookNode) -> dict[str, list[str]]:
    "The `#|` lines on top of a code cell, as nbdev reads them: {'export': [], 'eval:': ['false']}."
    return extract_directives(cell, remove=False) if cell.cell_type == "code" else {}


def why_skipped(cell: NotebookNode) -> str:
    "The directive that keeps a cell from running in tests, or nothing."
    found = directives(cell)
    if found.get("eval:", [""])[0].lower() == "false":
        return "#| eval: false"
    return "#| slow" if "slow" in found else ""


def front_matter(path: Path) -> dict:
    "The title, promise and options in a notebook's first cell, as nbdev reads them."
    return getattr(NBProcessor(path, procs=FrontmatterProc, process=True).nb, "frontmatter_", {})


def skips_execution(path: Path) -> bool:
    "Whether the notebook's first cell says `skip_exec: true`."
    return bool(front_matter(path).get("skip_exec", False))


def module_of(path: Path) -> str | None:
    "The module a notebook exports, without the package's name; None when it exports nothing."
    for cell in nbformat.read(path, 4).cells:
        if "default_exp" in directives(cell):
            return directives(cell)["default_exp"][0]
    return None


def exports(cell: NotebookNode) -> bool:
    "Whether the cell's code goes into the module."
    return any(name.rstrip(":") in ("export", "exports", "exporti") for name in directives(cell))


def without_magics(source: str) -> str:
    "The cell's Python: `%magic` and `!command` lines become `pass`, a cell of another language is dropped."
    try:
        ast.parse(source)
        return source
    except SyntaxError:
        return "" if source.lstrip().startswith("%%") else re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)


def render(value: object) -> None:
    "Ask a value for what a notebook would show of it, and throw that away."
    if value is None:
        return
    for method in ("_repr_html_", "_repr_markdown_", "_repr_png_", "_repr_svg_"):
        if callable(found := getattr(type(value), method, None)):
            found(value)
    repr(value)


class ProofFailed(AssertionError):
    "A cell of a notebook does not hold for the exported module."


def run_against_module(path: Path, module: ModuleType) -> int:
    """Run a notebook's own cells, without those it exports, with the names of `module`; return how many ran.

    nbdev_test runs the export cells inside the notebook, so a fault that is only in the module goes unseen there."""
    namespace = ModuleType(f"notebook_{path.stem}")
    namespace.__dict__.update({name: value for name, value in vars(module).items() if not name.startswith("__")})
    namespace.display = lambda *values, **_: [render(value) for value in values]
    sys.modules[namespace.__name__] = namespace
    ran = 0
    try:
        for number, cell in enumerate(nbformat.read(path, 4).cells):
            if cell.cell_type != "code" or exports(cell) or why_skipped(cell) or "default_exp" in directives(cell):
                continue
            try:
                run_cell(without_magics(cell.source), vars(namespace), f"<{path.name} cell {number}>")
            except Exception as problem:
                raise ProofFailed(f"{path.name}, cell {number}: {type(problem).__name__}: {problem}\n\n{cell.source}") from problem
            ran += 1
    finally:
        del sys.modules[namespace.__name__]
    return ran


def run_cell(source: str, names: dict, where: str) -> None:
    "Run a cell as a notebook does: the statements, then the last expression's value is rendered."
    linecache.cache[where] = (len(source), None, source.splitlines(True), where)
    tree = ast.parse(source, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, where, "exec"), names)
    if last:
        render(eval(compile(ast.Expression(last.value), where, "eval"), names))


@contextmanager
def unchanged_package():
    "Put the package's registries and tables back as they were: a notebook may register a network of its own."
    before = [(vars(module), name, value, value.copy())
              for key, module in list(sys.modules.items()) if key == PACKAGE or key.startswith(PACKAGE + ".")
              for name, value in list(vars(module).items()) if type(value) in (dict, list, set) and not name.startswith("__")]
    try:
        yield
    finally:
        for names, name, value, copy in before:
            value.clear()
            value.extend(copy) if isinstance(value, list) else value.update(copy)
            names[name] = value


def load_module(name: str) -> ModuleType:
    "A module of the package by its short name, e.g. `data.cache`."
    return importlib.import_module(f"{PACKAGE}.{name}")
