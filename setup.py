"Everything about the package is said once, in settings.ini; this file hands it to setuptools."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
settings = parser["DEFAULT"]

extras = {key.removesuffix("_requirements"): value.split()
          for key, value in settings.items() if key.endswith("_requirements")}
tested = ("report", "pretrained", "timm", "sign", "expectations", "labels", "parallel", "export", "serve")
extras["dev"] += [need for name in tested for need in extras[name]]

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=settings["keywords"].split(),
    author=settings["author"],
    author_email=settings["author_email"],
    url=settings["git_url"],
    license="Apache-2.0",
    license_files=["LICENSE"],
    package_dir={"": "."},
    packages=find_packages(include=["image_classifier", "image_classifier.*"]),
    package_data={"image_classifier": ["conf/*.yaml", "conf/*/*.yaml", "reports/*.ipynb", "web/*", "py.typed", "*.pyi",
                                       "*/*.pyi"]},
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require=extras,
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": ["image_classifier=image_classifier._modidx:d"],
    },
    zip_safe=False,
)
