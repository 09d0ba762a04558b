"Writes README.md, which is the page index.ipynb as Markdown."
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

HERE = Path(__file__).resolve().parent


def readme() -> str:
    "The home page as Markdown, with its code cells marked as Python."
    notebook = nbformat.read(HERE / "index.ipynb", as_version=4)
    notebook.metadata["language_info"] = {"name": "python"}
    text, _ = MarkdownExporter().from_notebook_node(notebook)
    text = text.replace('src="images/', 'src="nbs/images/')  # README.md lies a folder above
    return "\n".join(line.rstrip() for line in text.splitlines()).replace("\n\n\n", "\n\n").strip() + "\n"


if __name__ == "__main__":
    (HERE.parent / "README.md").write_text(readme(), encoding="utf-8")
