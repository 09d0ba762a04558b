"Writes the example reports that the page gallery.ipynb links to: python nbs/_gallery.py _docs/gallery"
import contextlib
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from image_classifier.cli import main

# Name of the page: its command, in a folder with the runs before it.
REPORTS = {
    "digits": "ic report data=digits --out digits",
    "few_images": "ic report data=digits data.train_fraction=0.05 hyperparameters=fast epochs=5 --out few_images",
    "threshold": "ic report data=digits hyperparameters=fast epochs=8 target_accuracy=0.95 --out threshold",
    "comparison": "ic report --notebook compare runs='digits few_images threshold' --out comparison",
}


def write_gallery(folder: Path) -> None:
    "Write each report in a folder of its own and copy its page into `folder`; stop at the first command that fails."
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root, contextlib.chdir(root):
        for name, command in REPORTS.items():
            if code := main(shlex.split(command)[1:]):
                sys.exit(code)
            shutil.copyfile(Path(name) / "report.html", folder / f"{name}.html")


if __name__ == "__main__":
    write_gallery(Path(sys.argv[1]))
