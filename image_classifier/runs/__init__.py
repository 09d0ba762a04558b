"""Train, measure and store one configuration as a run folder or a report."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
