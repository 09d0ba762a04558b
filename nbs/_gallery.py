"Writes the example reports that the page gallery.ipynb links to: python nbs/_gallery.py _docs/gallery"
import contextlib
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from image_classifier.cli import main

# Name of the page: what follows `ic report`, in a folder with the runs before it.
REPORTS = {
    "digits": "data=digits",
    "few_images": "data=digits data.train_fraction=0.05 hyperparameters=fast epochs=5",
    "threshold": "data=digits hyperparameters=fast epochs=8 target_accuracy=0.95",
    "comparison": "--notebook compare runs='digits few_images threshold'",
}


def write_gallery(folder: Path) -> None:
    "Write each report in a folder of its own and copy its page into `folder`; stop at the first command that fails."
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root, contextlib.chdir(root):
        for name, words in REPORTS.items():
            if code := main(["report", *shlex.split(words), "--out", name]):
                sys.exit(code)
            shutil.copyfile(Path(name) / "report.html", folder / f"{name}.html")


if __name__ == "__main__":
    write_gallery(Path(sys.argv[1]))
