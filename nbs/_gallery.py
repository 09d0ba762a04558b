"Writes the example reports that the page gallery.ipynb links to: python nbs/_gallery.py _docs/gallery"
import shutil
import sys
import tempfile
from pathlib import Path

from image_classifier.cli import main

# Name of the page: what follows `ic report`. The runs before the last are its runs.
REPORTS = {
    "digits": "data=digits",
    "few_images": "data=digits data.train_fraction=0.05 hyperparameters=fast epochs=5",
    "threshold": "data=digits hyperparameters=fast epochs=8 target_accuracy=0.95",
    "comparison": "--notebook compare runs='digits few_images threshold'",
}


def write_gallery(folder: Path) -> None:
    "Train, report and copy the pages into `folder`; stop at the first command that fails."
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root:
        for name, words in REPORTS.items():
            runs = " ".join(f"{root}/{other}" for other in REPORTS if other != name)
            given = ["--notebook", "compare", f"runs={runs}"] if name == "comparison" else words.split()
            if code := main(["report", *given, "--out", f"{root}/{name}"]):
                sys.exit(code)
            shutil.copyfile(f"{root}/{name}/report.html", folder / f"{name}.html")


if __name__ == "__main__":
    write_gallery(Path(sys.argv[1]))
