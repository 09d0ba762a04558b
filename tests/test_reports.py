"""Reports: what is refused before a kernel starts, what a failing cell leaves, and that a page is self-contained."""
import base64
import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from folders import picture, save
from literate import ROOT, skips_execution

from image_classifier.cli import main
from image_classifier.config import compose, load_config
from image_classifier.core import ConfigError, DataError, html_table, ImageClassifierError, own_folder, ResourceError
from image_classifier.data import load_data
from image_classifier.metrics import plot_confusion
from image_classifier.runs import check_parameters, choose_settings, inspect_report, report_config, run_report, to_html

PAPERMILL = [sys.executable, "-m", "papermill"]


@pytest.fixture
def notebook(tmp_path):
    "Write a notebook of code cells, the first tagged `parameters`."
    def write(*cells, name="toy.ipynb", tags=("parameters",), **metadata):
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=metadata)
        made.cells[0].metadata["tags"] = list(tags)
        nbformat.write(made, tmp_path / name)
        return tmp_path / name
    return write


@pytest.fixture
def refused(capsys, tmp_path):
    "Call `ic report`, and check the exit code, the one error line and that no kernel ran."
    def call(code, *words, says=()):
        capsys.readouterr()
        assert main(["report", *map(str, words), "--out", str(tmp_path / "out")]) == code
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 1 and err.startswith("error: "), err
        for text in says:
            assert text in err, (text, err)
        assert not (tmp_path / "out" / "report.ipynb").exists()
        return err
    return call


# ---------------------------------------------------------------- refused before a kernel starts (bad_inputs.md, 6c)

@pytest.mark.parametrize("words, says", [
    (["epoch=3"], ["unknown key epoch", "epochs"]),
    (["epochs=abc"], ["epochs needs auto or an integer, got 'abc'"]),
    (["epochs=-3"], ["must be auto or an integer >= 1"]),
    (["lr=nan"], ["must be", "finite"]),
    (["data=folder"], ["data.root is required"]),
    (["data=./not/there"], ["no folder", "the nearest existing parent is"]),
    (["data=folder", "data.root=/not/there"], ["no folder /not/there", "the nearest existing parent is /"]),
    (["data.label_column=" + "x" * 5_000_000], ["longer than 64 KB"]),
    (["model=resnet999"], ["resnet999"]),
])
def test_a_wrong_parameter_of_a_run_starts_no_kernel(refused, words, says):
    refused(2, *words, says=says)


@pytest.mark.parametrize("parameters, epochs, size", [
    ({"epochs": "auto", "overrides": "max_minutes=5"}, "auto", "auto"), ({"epochs": "3"}, 3, "auto"),
    ({"epochs": 3, "overrides": "data.size=auto"}, 3, "auto"), ({"overrides": "epochs=auto max_minutes=5 data.size=32"}, "auto", 32)])
def test_report_notebook_takes_auto_where_the_configuration_does(parameters, epochs, size):
    values = check_parameters(inspect_report("train").parameters, parameters)
    config = report_config(**values)
    assert (config.hyperparameters.num_epochs, config.data.size) == (epochs, size)


@pytest.mark.parametrize("parameters, line", [
    ({"epochs": "abc"}, "epochs needs auto or an integer, got 'abc'"), ({"epochs": True}, "epochs needs auto or an integer, got true"),
    ({"batch_size": "auto"}, "batch_size needs an integer, got 'auto'"), ({"seed": "auto"}, "seed needs an integer, got 'auto'")])
def test_report_notebook_refuses_other_words(parameters, line):
    with pytest.raises(ConfigError, match=line):
        report_config(**check_parameters(inspect_report("train").parameters, parameters))


TOY = "epochs: int = 3\nlr: float = 0.1\nname: str = 'a'\ndata_dir: str = ''"


@pytest.mark.parametrize("parameters, says", [
    ({"epoch": 3}, "unknown parameter epoch. did you mean epochs?"),
    ({"lr=1\nimport os; open('canary', 'w')": 1}, "not a valid parameter name"),
    ({"class": 1}, "not a valid parameter name"),
    ({"__builtins__": 1}, "not a valid parameter name"),
    ({"1x": 1}, "not a valid parameter name"),
    ({"": 1}, "not a valid parameter name: ''"),
    ({"epochs": "abc"}, "epochs needs an integer, got 'abc'"),
    ({"epochs": True}, "epochs needs an integer, got true"),
    ({"epochs": 1.5}, "epochs needs an integer, got 1.5"),
    ({"lr": float("nan")}, "lr must be a finite number"),
    ({"lr": {"a": 1}}, "lr needs a number, got dict"),
    ({"data_dir": None}, "data_dir is required"),
    ({"name": "x" * 5_000_000}, "name is longer than 64 KB. pass a file path"),
    ({"name": b"x"}, "name needs text, got bytes"),
])
def test_a_wrong_parameter_of_any_notebook_starts_no_kernel(notebook, tmp_path, monkeypatch, parameters, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(says)):
        run_report(notebook(TOY), parameters, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "canary").exists()


def test_a_module_in_the_working_folder_can_be_imported_but_replaces_no_installed_one(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("torch", "ipykernel_launcher", "json"):
        (tmp_path / f"{name}.py").write_text("open('canary', 'w')")
    (tmp_path / "helper.py").write_text("word = 'helped'")
    made = run_report(notebook("x: int = 1", "import json, torch, helper\nprint(torch.__name__, helper.word, json.dumps(1))"), {}, tmp_path / "out")
    assert "torch helped 1" in made.page.read_text() and not (tmp_path / "canary").exists()


@pytest.mark.parametrize("text", ["", "???", "null", "${seed}"])
def test_text_with_a_meaning_in_yaml_stays_text_in_a_notebook(notebook, text):
    declared = inspect_report(notebook(TOY)).parameters
    assert check_parameters(declared, {"name": text, "epochs": "2"}) == {"name": text, "epochs": 2}


def test_a_file_that_is_not_a_report_notebook_is_refused(refused, notebook, tmp_path):
    (tmp_path / "a.ipynb").write_text('{"cells": [')
    refused(2, "--notebook", tmp_path / "a.ipynb", says=["not a notebook: a.ipynb line 1"])
    (tmp_path / "b.ipynb").write_text('{"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": []}')
    refused(2, "--notebook", tmp_path / "b.ipynb", says=["notebook format 3, 4 is needed"])
    refused(2, "--notebook", notebook("x = 1", name="c.ipynb", tags=()), says=["tag the cell that holds the defaults with 'parameters'"])
    refused(2, "--notebook", notebook("x = 1", name="d.ipynb", kernelspec={"name": "ir", "language": "R", "display_name": "R"}), says=["R", "ir", "python3"])
    refused(2, "--notebook", notebook("x = 1", name="e.ipynb", kernelspec={"name": "nowhere", "language": "python", "display_name": ""}),
            says=["no kernel nowhere", "kernels found: ", "python3"])
    refused(2, "--notebook", tmp_path / "f.ipynb", says=["no notebook", "nearest existing parent"])
    refused(2, "--notebook", "tran", says=["unknown report tran", "did you mean train?"])


def test_a_tag_in_a_configuration_file_is_refused_and_dates_stay_text(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("seed: !!python/object/apply:os.system ['touch canary']\n")
    refused(2, "--config", "c.yaml", says=["tags are not allowed"])
    assert not (tmp_path / "canary").exists()
    (tmp_path / "d.yaml").write_text("data: {label_column: 2026-01-01}\n")
    assert compose(file="d.yaml").data.label_column == "2026-01-01"


def test_a_report_does_not_overwrite_another_run(refused, tmp_path, capsys):
    assert main(["train", "epochs=1", "hyperparameters=fast", "--out", str(tmp_path / "out")]) == 0
    refused(2, "epochs=1", "hyperparameters=fast", "seed=7", says=["seed", "42", "7"])
    capsys.readouterr()
    assert main(["report", "epochs=1", "--out", "/proc/run"]) == 2
    assert "/proc/run" in capsys.readouterr().err


# ---------------------------------------------------------------- notebooks that run

def test_text_stays_text_and_braces_in_a_path_are_literal(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = '"; open("canary", "w") #\n<script>alert(1)</script>\\'
    path = notebook("text: str = ''", "print(repr(text))", "from IPython.display import HTML, Javascript", "Javascript('alert(1)')",
                    "HTML('<table><tr><td>cell</td></tr></table>')", name="{x.__class__}.ipynb")
    made = run_report(path, {"text": evil}, tmp_path / "{text.__class__}" / "{0}")
    assert made.page == tmp_path / "{text.__class__}" / "{0}" / "report.html"
    cells = json.loads(made.notebook.read_text())["cells"]
    assert "".join(cells[2]["outputs"][0]["text"]) == repr(evil) + "\n"
    assert not (tmp_path / "canary").exists()
    page = made.page.read_text()
    assert "<script" not in page and "&lt;script&gt;" in page and "<td>cell</td>" in page


def test_the_kernel_is_this_python_whatever_kernelspecs_are_installed(notebook, tmp_path, monkeypatch):
    "A user's kernelspec named python3 that starts something else is not used."
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JPY_SESSION_NAME", "live.ipynb")
    made = run_report(notebook("x: int = 1", "import os, sys\nprint(sys.executable, os.environ.get('JPY_SESSION_NAME'))",
                               kernelspec={"name": "python3", "language": "python", "display_name": "x"}), {}, tmp_path / "out")
    assert f"{sys.executable} None" in made.page.read_text()
    assert os.environ["JPY_SESSION_NAME"] == "live.ipynb"


@pytest.mark.parametrize("cell, kind, says", [
    ("from image_classifier.core.errors import DataError\nraise DataError('2 images are damaged', 'cats', 'remove them')", DataError,
     "cell 3 failed: 2 images are damaged (cats). remove them; partial report at "),
    ("1 / 0", ImageClassifierError, "cell 3 failed: ZeroDivisionError: division by zero; partial report at "),
    ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", ResourceError, "cell 3 failed: the kernel died"),
    ("import time\ntime.sleep(60)", ImageClassifierError, "cell 3 failed: it passed the time limit; partial report at "),
])
def test_a_failing_cell_leaves_a_partial_report_and_its_exit_code(notebook, tmp_path, cell, kind, says):
    path = notebook("x: int = 1", "print('so far <so> good')", cell, "print('never')")
    with pytest.raises(ImageClassifierError, match=re.escape(says)) as caught:
        run_report(path, {}, tmp_path / "out", time_limit=4)
    assert caught.type is kind
    page = (tmp_path / "out" / "report_failed.html").read_text()
    assert page.index("FAILED") < page.index("so far &lt;so&gt; good") and "cell 3 failed" in page
    assert nbformat.read(tmp_path / "out" / "report_failed.ipynb", 4).metadata.papermill.output_path == str(tmp_path / "out" / "report_failed.ipynb")


def test_a_report_that_fails_keeps_the_page_of_before(notebook, tmp_path):
    path, out = notebook("share: int = 1", "print(f'the share is {1 / share}')"), tmp_path / "out"
    run_report(path, {"share": 2}, out)
    before = {name: (out / name).read_bytes() for name in ("report.html", "report.ipynb")}
    with pytest.raises(ImageClassifierError, match=re.escape(f"division by zero; partial report at {out / 'report_failed.html'}")):
        run_report(path, {"share": 0}, out)
    assert {name: (out / name).read_bytes() for name in before} == before and "FAILED" in (out / "report_failed.html").read_text()
    run_report(path, {"share": 4}, out)
    assert "the share is 0.25" in (out / "report.html").read_text() and not list(out.glob("report_failed.*"))


def test_an_interrupted_cell_exits_with_130(notebook, tmp_path, capsys):
    path = notebook("x: int = 1", "raise KeyboardInterrupt")
    assert main(["report", "--notebook", str(path), "x=2", "--out", str(tmp_path / "out")]) == 130
    assert "FAILED" in (tmp_path / "out" / "report_failed.html").read_text()


def test_a_users_notebook_takes_arguments_in_its_declared_types(notebook, tmp_path, capsys):
    path = notebook("n: int = 1\nrate: float = 1\ntext: str = ''", "print(repr((n, rate, text)))")
    assert main(["report", "--notebook", str(path), "n=2", "rate=1e-3", "text=2", "--out", str(tmp_path / "out"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"report": str(tmp_path / "out" / "report.html"), "notebook": str(tmp_path / "out" / "report.ipynb")}
    assert err == "(2, 0.001, '2')\n", "its output is shown while it runs"
    assert main(["report", "--notebook", str(path), "n=x", "--out", str(tmp_path / "no")]) == 2
    assert "n needs an integer, got 'x'" in capsys.readouterr().err


# ---------------------------------------------------------------- the report of a run

@pytest.fixture(scope="module")
def report(tmp_path_factory):
    "A report of one epoch, as `ic report` makes it, after an attempt that failed in the same folder."
    folder = own_folder(tmp_path_factory.mktemp("report") / "run", "run")
    (folder / "report.html").touch()
    assert main(["report", "epochs=1", "hyperparameters=fast", "--out", str(folder)]) == 0
    return folder


def test_the_page_needs_no_network_and_cannot_run_code(report):
    page = (report / "report.html").read_text()
    assert "default-src 'none'" in page and "<script" not in page
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:|//)|@import|url\(""", page)
    assert page.count("data:image/png;base64,") >= 7 and "No description has been provided" not in page
    assert "skip_exec" not in page and '<details class="code">' in page
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    assert titles[0] == "Result" and "Training" in titles


def test_a_report_holds_the_numbers_of_its_run(report):
    metrics = json.loads((report / "metrics.json").read_text())["test"]
    page = (report / "report.html").read_text()
    first = page.split("<h2")[1]
    assert re.search(r'<p class="headline"><strong>simple_cnn on digits: test accuracy 0\.\d{3} \[.*?\], 95 % interval, 359 images</strong></p>', page)
    for name in ("accuracy", "loss", "f1_macro"):
        assert f"{metrics[name]['value']:.3f} [{metrics[name]['low']:.3f}, {metrics[name]['high']:.3f}]" in first


def test_a_report_gets_its_configuration_as_a_file_and_can_be_run_again(report):
    "The notebook that is kept names the file; its content is the run's configuration."
    assert choose_settings(load_config(report / "report.yaml")) == load_config(report / "config.yaml")
    [injected] = [cell.source for cell in nbformat.read(report / "report.ipynb", 4).cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert injected == f'# Parameters\nconfig_file = "{report}/report.yaml"\nrun_dir = "{report}"\n'
    assert str(report) not in (report / "report.html").read_text()  # who reads the page need not know the folders of who made it


def test_a_configuration_file_and_another_parameter_are_refused(tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 7\n")
    with pytest.raises(ConfigError, match="config_file and epochs are both given"):
        run_report("train", {"config_file": str(tmp_path / "c.yaml"), "epochs": 3}, tmp_path / "out")
    with pytest.raises(ConfigError, match="config goes with no other parameter"):
        run_report("train", {"epochs": 3}, tmp_path / "out", config=compose())
    assert not (tmp_path / "out").exists()


def test_the_report_of_a_finished_run_trains_nothing(report, capsys):
    before = {name: (report / name).read_bytes() for name in ("history.jsonl", "metrics.json", "classifier/MANIFEST.json")}
    assert main(["report", str(report), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["run"] == str(report) and answer["metrics"] == json.loads(before["metrics.json"])
    assert before == {name: (report / name).read_bytes() for name in before}
    assert "an equal run was already finished" in (report / "report.html").read_text()


def test_a_report_of_a_run_with_a_changed_key_is_refused(report, capsys):
    assert main(["report", str(report), "seed=7"]) == 2
    err = capsys.readouterr().err
    assert "seed" in err and "num_epochs" not in err and err.count("\n") == 1


def test_a_hostile_class_name_does_no_harm_on_the_page(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[
        nbformat.v4.new_output("display_data", {"text/html": html_table([evil], [[evil]])}),
        nbformat.v4.new_output("stream", name="stderr", text=evil)])])
    nbformat.write(made, tmp_path / "a.ipynb")
    assert "<img" not in to_html(tmp_path / "a.ipynb", tmp_path / "a.html", failed=evil).read_text()


def test_plain_papermill_fails_on_a_parameter_that_it_would_ignore(tmp_path):
    done = subprocess.run([*PAPERMILL, "nbs/train.ipynb", str(tmp_path / "out.ipynb"), "-p", "epoch", "3"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "error: unknown parameter epoch. did you mean epochs?" in done.stderr
    failed = [output for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert [output.traceback for output in failed] == [["error: unknown parameter epoch. did you mean epochs?"]]


def test_each_split_is_shown_under_its_name(report):
    page = (report / "report.html").read_text()
    assert re.findall(r"<h3[^>]*>(\w+) images", page) == ["Training", "Validation", "Test"]


def test_the_report_notebook_defines_nothing_and_keeps_its_tag():
    cells = nbformat.read(ROOT / "nbs" / "train.ipynb", 4).cells
    assert not [cell for cell in cells if cell.cell_type == "code" and re.search(r"^\s*(def|class|lambda)\b", cell.source, flags=re.M)]
    assert [cell.metadata.get("tags") for cell in cells].count(["parameters"]) == 1
    helped = subprocess.run([*PAPERMILL, "--help-notebook", "nbs/train.ipynb"], cwd=ROOT, capture_output=True, text=True)
    assert "epochs: Optional[Union[int, str]] (default None)" in helped.stdout and "overrides: str" in helped.stdout and not helped.stderr.count("Unable to parse")


def test_an_installed_package_brings_its_reports_along(tmp_path):
    "The link in the repository becomes a file in a wheel."
    source = tmp_path / "source"
    source.mkdir()
    for name in ("settings.ini", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "image_classifier", source / "image_classifier", symlinks=True, ignore=ignore)
    (source / "nbs").mkdir()
    for name in ("train", "compare"):
        shutil.copy(ROOT / "nbs" / f"{name}.ipynb", source / "nbs")
    subprocess.run([sys.executable, "setup.py", "-q", "build", "--build-lib", str(tmp_path / "site")], cwd=source, check=True, capture_output=True)
    code = "from image_classifier.runs import inspect_report; p = inspect_report('train'); print(p.path, p.path.is_symlink(), len(p.parameters))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "site" / "image_classifier" / "reports" / "train.ipynb"), "False", "11"], done.stderr


def test_a_template_in_the_working_folder_is_not_used(tmp_path, monkeypatch):
    "nbconvert looks for templates in the working folder; a template is a program."
    (tmp_path / "basic" / "basic").mkdir(parents=True)
    for name in ("index.html.j2", "basic/index.html.j2", "base.html.j2"):
        (tmp_path / "basic" / name).write_text("another page")
    notebook = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Mine")]), notebook)
    monkeypatch.chdir(tmp_path)
    page = to_html(notebook, tmp_path / "a.html").read_text()
    assert "Mine" in page and "another page" not in page


# ---------------------------------------------------------------- what a reader meets

def visible(page):
    "The text of a page without its folded code."
    return re.sub(r'<details class="code">.*?</details>', "", page.split("<body>")[1], flags=re.S)


def test_the_headline_comes_first_and_is_the_title(report):
    page = (report / "report.html").read_text()
    accuracy = json.loads((report / "metrics.json").read_text())["test"]["accuracy"]["value"]
    assert re.search(rf"<title>simple_cnn on digits: test accuracy {accuracy:.3f} \[", page)
    text = visible(page)
    assert text.index("simple_cnn on digits: test accuracy") < text.index("<h2")
    assert text.index("simple_cnn on digits") < text.index("<table")
    assert re.search(r"most frequent class \(\w+\) would reach 0\.1\d\d\. Weakest class: \w+, recall [\d.]+ \[.*?\] of \d+ images", text)
    assert text.index("Weakest class") < text.index('<nav class="contents"') < text.index("<h2")


def test_every_section_is_in_the_table_of_contents_and_what_few_need_is_folded(report):
    page = (report / "report.html").read_text()
    links = dict(re.findall(r'<li class="h[23]"><a href="#([^"]+)">(.*?)</a>', page))
    headings = dict(re.findall(r'<h[23][^>]* id="([^"]+)"[^>]*>(.*?)</h', page))
    assert links == headings and len(links) > 10
    assert sorted(re.findall(r'<details class="section">\s*<summary><h[23] id="[^"]+">(.*?)</h', page)) == [
        "Configuration", "Coverage", "Estimated time", "Files", "Images", "Images unlike the training images"]
    assert page.count("<details") == page.count("</details>")


def test_every_figure_tells_what_it_shows(report):
    alts = re.findall(r'<img[^>]*?alt="([^"]*)"', (report / "report.html").read_text(), re.S)
    assert len(alts) >= 7 and all(len(alt) > 20 for alt in alts)
    assert any(re.match(r"Confusion matrix of 10 classes: 359 images, \d+ correct; the most frequent mistake is", alt) for alt in alts)


def test_a_folded_section_with_a_warning_or_an_error_is_open(notebook, tmp_path):
    def cell(text):
        return nbformat.v4.new_markdown_cell(text, metadata={"tags": ["folded"]})
    def stderr(text):
        return nbformat.v4.new_code_cell("f()", outputs=[nbformat.v4.new_output("stream", name="stderr", text=text)])
    mark = nbformat.v4.new_output("display_data", {"text/html": '<p class="a relevant">x</p>'})
    error = nbformat.v4.new_output("error", ename="E", evalue="x", traceback=["x"])
    cells = [cell("## Quiet"), stderr("timing\n"), cell("## Warned"), stderr("timing\nWarning: dark\n"), cell("## Marked"),
             nbformat.v4.new_code_cell("g()", outputs=[mark]), cell("## <b>Broken</b>"), nbformat.v4.new_code_cell("h()", outputs=[error])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    page = to_html(tmp_path / "a.ipynb", tmp_path / "a.html").read_text()
    opened = re.findall(r'<details class="section"( open)?(?:="")?>', page)
    assert opened == ["", " open", " open", " open"] and "<b>Broken" not in page and page.count("</details>") == page.count("<details")


def test_a_class_name_cannot_leave_the_alternative_text_of_a_figure(tmp_path):
    figure = plot_confusion(np.array([[1, 2], [0, 1]]), ['"><script>alert(1)</script>', "b"])
    data, metadata = figure._repr_png_()
    shown = nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(data).decode()}, metadata={"image/png": metadata})
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("f", outputs=[shown])]), tmp_path / "a.ipynb")
    page = to_html(tmp_path / "a.ipynb", tmp_path / "a.html").read_text()
    assert "<script" not in page and "predicted as b (2)" in page


def test_a_report_hides_nothing_of_its_log_and_breaks_no_word_inside(report):
    page = (report / "report.html").read_text()
    style = page.split("<style>")[1].split("</style>")[0]
    heights = re.findall(r"([^{}]+)\{[^{}]*max-height: \d", style)
    assert [rule.strip() for rule in heights] == ["details.code pre"], "only folded code scrolls"
    assert "anywhere" not in re.search(r"th, td \{[^}]*overflow-wrap[^}]*\}", style)[0]
    assert "hyperparameters.<wbr>learning_<wbr>rate" in page and "td:first-child wbr { display: none; }" in style  # on a wide page
    assert ":has(+ div .output_png) > summary { margin-bottom: 0; }" in style, "a wide figure covers the link to its code"


def test_code_that_shows_nothing_is_folded_into_one_link(report):
    "Imports, parameters, the injected parameters and the configuration come before the first output."
    page = (report / "report.html").read_text()
    first = page.split("<h2")[0]
    assert first.count("<summary>code</summary>") == 1 and "Parameters" in first and "import" in first


def test_a_warning_of_python_is_one_line_without_source(notebook, tmp_path):
    path = notebook("x: int = 1", "from image_classifier.core import plain_warnings\nimport warnings\nplain_warnings()\n"
                    "def careless():\n    warnings.warn('3 images are left out')\ncareless()")
    page = visible(run_report(path, {}, tmp_path / "out").page.read_text())
    assert re.search(r'class="stderr"><pre>warning: 3 images are left out\s*</pre>', page)
    assert "plain_warnings()" in (ROOT / "nbs" / "train.ipynb").read_text()


def test_the_options_of_the_notebook_are_not_shown_and_still_found():
    "JupyterLab hides an HTML comment; nbdev reads the line in it."
    first = nbformat.read(ROOT / "nbs" / "train.ipynb", 4).cells[0].source
    assert skips_execution(ROOT / "nbs" / "train.ipynb")
    assert "skip_exec" not in re.sub("<!--.*?-->", "", first, flags=re.S) and first.startswith("# Training report")


def test_cells_of_a_table_are_aligned_on_the_left_also_in_jupyterlab():
    assert re.findall(r"<t[hd][^>]*>", html_table(["a"], [["b"]])) == ['<th style="text-align:left">', '<td style="text-align:left">']


def test_a_report_of_data_and_in_a_folder_that_are_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9 100%")
    for number in range(24):
        save(folder / "pets" / "ab"[number % 2] / f"{number}.png", picture(number))
    words = ["epochs=1", "hyperparameters=fast", "batch_size=8", "check_near_duplicates=false", "threads=1"]
    out = folder / "run"
    assert main(["report", f"data={folder}/pets", *words, "--out", str(out)]) == 0
    assert (out / "report.html").exists() and json.loads((out / "report.ipynb").read_bytes().decode("utf-8"))
    assert main(["report", str(out)]) == 0, "the report of a finished run"


def test_a_page_that_prints_what_is_not_utf8(notebook, tmp_path):
    path = notebook("x: int = 1\nrun_dir: str = ''", "print('caf\\udce9', run_dir)")
    assert "caf" in run_report(path, {}, tmp_path / os.fsdecode(b"caf\xe9 100%")).page.read_text()


def test_a_report_says_which_network_was_chosen(report):
    assert "model=auto chose simple_cnn" in (report / "report.html").read_text()


def test_the_mistakes_of_a_report_name_their_files(report):
    page = (report / "report.html").read_text()
    mistakes = page.split("Worst mistakes")[-1]
    ids = re.findall(r"<td[^>]*>(\d{4})</td><td", mistakes)
    assert len(ids) == 12 and set(ids) <= set(load_data("digits").test.ids)


# ---------------------------------------------------------------- the settings of the user

@pytest.mark.parametrize("home", ["settings", "file"])
def test_a_report_does_not_depend_on_the_home_of_the_user(notebook, tmp_path, home):
    "Settings of Jupyter, IPython and matplotlib that fail or change the page; a home that cannot be written."
    path, place = notebook("text: str = 'a'", "print(text + 'bc')", "1 + 1"), tmp_path / "home"
    if home == "file":
        place.write_text("")
    else:
        for name, text in {".jupyter/jupyter_nbconvert_config.py": "raise RuntimeError", ".jupyter/jupyter_config.py": "raise RuntimeError",
                           ".jupyter/jupyter_nbconvert_config.json": '{"TemplateExporter": {"exclude_output": true}}',
                           ".ipython/profile_default/startup/00.py": "print('hostile')",
                           ".ipython/profile_default/ipython_config.py": "get_config().InteractiveShell.ast_node_interactivity = 'none'",
                           ".config/matplotlib/matplotlibrc": "text.usetex: True\n", "work/matplotlibrc": "backend: TkAgg\n"}.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(place), "TZ": "Pacific/Kiritimati", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-m", "image_classifier.cli", "report", "--notebook", str(path), "--out", str(tmp_path / "out")],
                          cwd=place / "work" if place.is_dir() else tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "abc" in page and "hostile" not in page and ">2<" in re.sub(r"\s", "", page)
