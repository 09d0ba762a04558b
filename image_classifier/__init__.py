"""From labeled images to a classifier you can trust, in notebooks."""
__version__ = "0.1.0"

from image_classifier import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
