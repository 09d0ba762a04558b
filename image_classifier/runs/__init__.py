"""Train, measure and store one configuration as a run folder or a report."""
from image_classifier import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
