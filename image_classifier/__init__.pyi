from . import cli as cli, config as config, core as core, data as data, inference as inference, metrics as metrics, models as models
from . import quality as quality, runs as runs, training as training
from .config import Config as Config, compose as compose, load_config as load_config
from .data import Dataset as Dataset, Preprocess as Preprocess, Splits as Splits, load_data as load_data
from .inference import Classifier as Classifier, Prediction as Prediction
from .metrics import Evaluation as Evaluation, evaluate as evaluate
from .models import build_model as build_model, register_model as register_model
from .runs import Run as Run, train as train
from .training import Callback as Callback, History as History, fit as fit

__version__: str
