"Offer the names in the stub beside a package's `__init__.py`, each imported when it is first used."
import lazy_loader


def attach(package: str,  # __name__
           file: str,  # __file__ of its __init__.py
          ) -> tuple:  # __getattr__, __dir__, __all__
    "Return what makes the names of the stub importable; as `lazy_loader.attach_stub`, without parsing Python at each start."
    modules, names = [], {}
    with open(file.removesuffix("c") + "i", encoding="utf-8") as stub:
        for line in stub:
            words = line.replace(",", "").split()  # from .io import read as read, write as write
            if words[:1] == ["from"]:
                found = modules if words[1] == "." else names.setdefault(words[1][1:], [])
                found += words[3::3]
    return lazy_loader.attach(package, modules, names)
