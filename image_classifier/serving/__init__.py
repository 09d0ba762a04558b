"""Serve a trained classifier over HTTP, without torch."""
from image_classifier import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
