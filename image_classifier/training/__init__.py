"""Train a network: optimizers, schedules, checkpoints, several processes, time estimates."""
from image_classifier import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
