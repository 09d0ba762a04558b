"""The site: nbdev processes every notebook, pandoc renders every page, and links, anchors, figures and names are looked up in what is rendered.
Quarto, which does the rest, runs in the workflow `docs`."""
import itertools
import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pypandoc
import pytest
import yaml
from literate import copied, directives, front_matter, module_of, NBS, notebooks, PACKAGES, ROOT, SETTINGS, surface

SITE = SETTINGS["doc_host"] + SETTINGS["doc_baseurl"]
pytestmark = pytest.mark.slow


class Page(HTMLParser):
    "What a rendered page holds: title, anchors, links, pictures and text."
    def __init__(self, html: str):
        super().__init__()
        self.anchors, self.links, self.pictures, self.text = set(), [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given["id"]} if given.get("id") else set()
        if tag == "a" and not re.fullmatch(r"#cb\d+-\d+", given.get("href") or ""):  # pandoc numbers the lines of code
            self.links += [given["href"]] if "href" in given else []
        if tag == "img":
            self.pictures.append(given.get("src", ""))

    def handle_data(self, data):
        self.text += data


def rendered(text: str, kind: str) -> Page:
    "Render a document as pandoc does; raise a RuntimeError if it cannot be read."
    return Page(pypandoc.convert_text(text, "html5", format=kind, extra_args=["--mathml", "--syntax-highlighting=none"]))


def as_quarto_reads(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    "A notebook whose outputs in Markdown, such as signatures, are text of the page, as in Quarto; pandoc alone drops them."
    found = []
    for cell in notebook.cells:
        prose = [output for output in cell.get("outputs", []) if "text/markdown" in output.get("data", {})]
        rest = [output for output in cell.get("outputs", []) if output not in prose]
        for output in rest:
            if output.output_type == "execute_result":
                output.execution_count = 1  # pandoc reads no null
        if cell.cell_type == "code" and (rest or "echo: false" not in cell.source):
            found.append(nbformat.v4.new_code_cell(cell.source, outputs=rest, execution_count=1))
        elif cell.cell_type == "markdown":
            found.append(nbformat.v4.new_markdown_cell(cell.source))
        found += [nbformat.v4.new_markdown_cell(output.data["text/markdown"]) for output in prose]
    return nbformat.v4.new_notebook(cells=found)


# One process, so that torch and the others are imported once; nbdev_docs starts several. Its shells, one for each notebook, take a minute to
# be cleared at the end, which the test does without.
DOCS = """
import os
from nbdev.quarto import refresh_quarto_yml
from nbdev.serve import proc_nbs

refresh_quarto_yml()
proc_nbs(n_workers=0)
os._exit(0)
"""


@pytest.fixture(scope="module")
def processed(tmp_path_factory) -> Path:
    "The folder that nbdev hands to Quarto."
    folder = tmp_path_factory.mktemp("site")
    copied(folder, ["settings.ini", "_quarto.yml", "nbs"])  # the package is imported from the checkout, where it is compiled
    done = subprocess.run([sys.executable, "-c", DOCS], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "_proc"


def header(notebook: nbformat.NotebookNode) -> dict:
    "What nbdev tells Quarto about a page: title, description, output-file."
    return yaml.safe_load(notebook.cells[0].source.strip().strip("-"))


@pytest.fixture(scope="module")
def pages(processed) -> dict[Path, Page]:
    "Every notebook as a page, by the path it has on the site, and the documents beside README.md by their own."
    def page(path):
        notebook = nbformat.read(processed / path.relative_to(NBS), 4)
        name = header(notebook).get("output-file", path.with_suffix(".html").name)
        return path.parent / name, rendered(nbformat.writes(as_quarto_reads(notebook)), "ipynb")
    with ThreadPoolExecutor(2) as pool:
        found = dict(pool.map(page, notebooks()))
    assert len(found) == len(notebooks()), "two notebooks have the same page"
    return found | {path: rendered(path.read_text(encoding="utf-8"), "gfm") for path in sorted(ROOT.glob("*.md"))}


def page_of(path: Path) -> Path:
    "The page of a notebook: without the number that orders it."
    return path.with_name(re.sub(r"^\d+[a-zA-Z0-9]*_", "", path.stem) + ".html")


def broken(target: str, here: Path, pages: dict[Path, Page]) -> str:
    "Why a link of the page `here` leads nowhere, or nothing."
    if target.startswith(SITE):
        place = NBS / (target.removeprefix(SITE).lstrip("/") or "index.html")
    elif target.startswith(SETTINGS["git_url"]):
        found = re.match(rf"/(?:blob|tree|raw)/{SETTINGS['branch']}/([^#]*)", target.removeprefix(SETTINGS["git_url"]))
        return "" if not found or (ROOT / found[1]).exists() else f"no {found[1]}"
    elif re.match(r"[a-z][a-z0-9+.-]*:", target):
        return ""
    else:
        place = here.parent / target if target[:1] != "#" else Path(f"{here}{target}")
    name, _, anchor = unquote(os.path.normpath(place)).partition("#")
    path = page_of(Path(name)) if name.endswith(".ipynb") else Path(name)
    if path.parent == NBS / "gallery":  # written by nbs/_gallery.py when the site is built
        return "" if path.stem in runpy.run_path(str(NBS / "_gallery.py"))["REPORTS"] else f"no {path.name} in the gallery"
    if path not in pages:
        return "" if Path(name).is_file() and path.suffix not in (".ipynb", ".html") else f"no {os.path.relpath(name, ROOT)}"
    return f"no #{anchor} in {path.name}" if anchor and anchor not in pages[path].anchors else ""


def test_every_page_has_its_title_and_its_promise(processed):
    made = {path.relative_to(processed) for path in processed.rglob("*") if path.is_file()}
    assert {path.relative_to(NBS) for path in notebooks()} <= made
    assert (processed / "_quarto.yml").read_text(encoding="utf-8") == (ROOT / "_quarto.yml").read_text(encoding="utf-8")
    for path in notebooks():
        about = header(nbformat.read(processed / path.relative_to(NBS), 4))
        assert about["title"] and about["description"], path.name


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.relative_to(NBS).as_posix())
def test_every_notebook_has_a_title_and_a_promise(path):
    found = front_matter(path)
    assert found.get("title") and found.get("description"), "the first cell holds `# title` and `> description`"


def test_every_link_leads_somewhere(pages):
    found = [f"{path.relative_to(ROOT)}: {target}: {why}" for path, page in pages.items() for target in page.links + page.pictures
             if (path.suffix != ".html" or target in page.links) and (why := broken(target, path, pages))]
    assert not found


def test_the_link_check_finds_a_dead_link():
    here, text = NBS / "page.html", "# A page\n\n## Two words\n\n[good](#two-words) [bad](#three) [gone](missing.ipynb) [picture](none.png)\n"
    pages = {here: rendered(text, "gfm"), NBS / "core" / "errors.html": rendered("# Errors\n\n## Exit codes\n", "gfm")}
    assert [bool(broken(target, here, pages)) for target in pages[here].links] == [False, True, True, True]
    for target in ("core/10_errors.ipynb", "core/errors.html#exit-codes", f"{SITE}/core/errors.html", f"{SETTINGS['git_url']}/blob/main/README.md"):
        assert not broken(target, here, pages), target
    for target in ("core/errors.html#nowhere", f"{SITE}/nowhere.html", f"{SETTINGS['git_url']}/blob/main/nothing.md"):
        assert broken(target, here, pages), target


@pytest.mark.parametrize("package", sorted({module_of(path).split(".")[0] for path in notebooks() if module_of(path)}))
def test_every_public_name_is_on_the_page_of_its_module(package, pages):
    page = {module_of(path): pages[page_of(path)] for path in notebooks() if module_of(path)}
    missing = [name for name, module in surface(package).items()
               if name.lower() not in page[f"{package}.{module}"].anchors and not re.search(rf"\b{name}\b", page[f"{package}.{module}"].text)]
    assert not missing


def alternative_texts(cell: nbformat.NotebookNode) -> list[tuple[str, str | None]]:
    "What each figure of a cell is, and the text that Quarto takes for it: of a list, the one at the place of the output."
    line = next((line for line in cell.source.splitlines() if line.startswith("#| fig-alt:")), "")
    given = (yaml.safe_load(line[2:]) or {}).get("fig-alt")
    texts = given if isinstance(given, list) else [given] * len(cell.outputs)
    return [(kind, text) for output, text in itertools.zip_longest(cell.outputs, texts) if output
            for kind in ("image/png", "image/jpeg", "image/svg+xml") if kind in output.get("data", {})]


def test_every_figure_of_the_site_has_an_alternative_text():
    "Readers who cannot see a figure learn from `#| fig-alt: \"...\"` on top of its cell what it shows. nbdev drops a list on lines of its own."
    mute = [f"{path.relative_to(NBS)} cell {number}: {kind}" for path in notebooks() for number, cell in enumerate(nbformat.read(path, 4).cells)
            if cell.cell_type == "code" and "hide" not in directives(cell) for kind, text in alternative_texts(cell) if not text]
    assert not mute


def entries(sidebar: list) -> Iterator[str]:
    "The pages of a sidebar, in order."
    for entry in sidebar:
        if isinstance(entry, str):
            yield entry
        else:
            yield from entries(entry.get("contents", []))
            yield from [entry["href"]] if "href" in entry else []


def test_every_page_is_in_the_sidebar_once():
    site = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"]
    shown = list(entries(site["sidebar"]["contents"]))
    assert Counter(shown) == Counter(path.relative_to(NBS).as_posix() for path in notebooks())
    in_packages = [name for name in shown if name.split("/")[0] in PACKAGES]
    assert in_packages == sorted(in_packages, key=lambda name: (PACKAGES.index(name.split("/")[0]), name)), "packages in their order, notebooks by number"
