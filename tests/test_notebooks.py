"""The notebooks' proofs hold for the exported modules, not only for the cells they were exported from."""
import sys

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from literate import NBS, ProofFailed, module_of, notebooks, load_module, run_against_module, skips_execution, unchanged_package
from traitlets.config import Config

NOTEBOOKS = {f"{path.parent.name}/{path.stem}": path for path in notebooks() if module_of(path)}


@pytest.fixture(scope="module")
def shell():
    "What makes `display` and `get_ipython` work as in a kernel; it takes over __main__ and the exception hook for a while."
    main, hook = sys.modules["__main__"], sys.excepthook
    yield InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    InteractiveShell.clear_instance()
    sys.modules["__main__"], sys.excepthook = main, hook


@pytest.fixture(scope="module")
def imported():
    "Import every module first: what a module registers when it is imported must outlast the test that needs it first."
    for path in NOTEBOOKS.values():
        load_module(module_of(path))


@pytest.fixture
def in_folder(monkeypatch, shell, imported):
    "Run as a kernel would: in the notebook's folder, figures drawn off screen, the package's tables put back afterwards."
    monkeypatch.setenv("MPLBACKEND", "Agg")
    with unchanged_package():
        yield monkeypatch.chdir
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_proofs_hold_for_the_module(name, in_folder):
    path = NOTEBOOKS[name]
    if skips_execution(path):
        pytest.skip("skip_exec: true")
    module = load_module(module_of(path))
    in_folder(path.parent)
    before = set(path.parent.iterdir())
    assert run_against_module(path, module) >= 1
    left = [found.name for found in set(path.parent.iterdir()) - before if found.suffix != ".ipynb" and not found.name.startswith(".")]
    assert not left, f"{path.name} leaves files behind: {left}"


def toy(folder, module_code, cells):
    "A module, and a notebook that claims to export it."
    (folder / "toy_doubling.py").write_text(module_code)
    code = nbformat.v4.new_code_cell
    notebook = nbformat.v4.new_notebook(cells=[code("#| default_exp toy_doubling"), *map(code, cells)])
    nbformat.write(notebook, folder / "toy.ipynb")
    return folder / "toy.ipynb"


CELLS = ["#| export\ndef doubled(x: int) -> int:\n    return _twice(x)\n\ndef _twice(x):\n    return 2 * x",
         "%matplotlib inline\nfrom pathlib import Path",
         "#| slow\nraise RuntimeError('too slow for a test')",
         "#| eval: false\nraise RuntimeError('never run')",
         "assert doubled(4) == 8",
         "assert _twice(3) == 6\nassert Path.cwd() == Path('.').resolve()\ndoubled(4)"]


@pytest.mark.parametrize("line, fails", [("return 2 * x", None), ("return x + 4", "cell 6"), ("return x ** 2", "cell 5")])
def test_a_fault_that_is_only_in_the_module_is_found(tmp_path, monkeypatch, in_folder, line, fails):
    "The export cell of the notebook is right in each case; nbdev_test would pass them all."
    path = toy(tmp_path, f"def doubled(x):\n    return _twice(x)\n\ndef _twice(x):\n    {line}\n", CELLS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "toy_doubling", raising=False)
    import toy_doubling
    in_folder(tmp_path)
    if fails is None:
        assert run_against_module(path, toy_doubling) == 3
    else:
        with pytest.raises(ProofFailed, match=fails):
            run_against_module(path, toy_doubling)


def test_a_fault_in_a_real_module_is_found(monkeypatch, in_folder):
    errors = load_module("core.errors")
    monkeypatch.setattr(errors, "nearest", lambda word, options, count=3: [])
    in_folder(NBS)
    with pytest.raises(ProofFailed, match="10_errors.ipynb"):
        run_against_module(NBS / "core" / "10_errors.ipynb", errors)


def test_what_a_notebook_registers_does_not_leak_into_other_tests(monkeypatch):
    errors = load_module("core.errors")
    table, names = {"kept": 1}, ["kept"]
    monkeypatch.setattr(errors, "_table", table, raising=False)
    monkeypatch.setattr(errors, "_names", names, raising=False)
    with unchanged_package():
        table["mine"], errors._names = 2, []
        names.append("mine")
    assert errors._table is table == {"kept": 1} and errors._names is names == ["kept"]
