from .augmenting import augment_source as augment_source, source_hash as source_hash, split_augment as split_augment
from .callbacks import Callback as Callback, check_callbacks as check_callbacks
from .checkpoint import Checkpoint as Checkpoint, Checkpoints as Checkpoints, load_optimizer as load_optimizer, optimizer_tensors as optimizer_tensors
from .checkpoint import read_checkpoint as read_checkpoint, write_checkpoint as write_checkpoint
from .compute import Compute as Compute, resolve_compute as resolve_compute
from .distributed import DistributedContext as DistributedContext, broadcast_text as broadcast_text, init_distributed as init_distributed
from .distributed import peer_failure as peer_failure
from .ema import make_ema as make_ema
from .estimation import TimeEstimate as TimeEstimate, epochs_within as epochs_within, estimate as estimate
from .features import body_hash as body_hash, compute_features as compute_features, extract_features as extract_features
from .fine_tuning import FineTuned as FineTuned, estimate_fine_tuning as estimate_fine_tuning, fine_tune as fine_tune, prepare_fine_tuning as prepare_fine_tuning
from .freezing import FineTuning as FineTuning, train_mode as train_mode
from .history import EpochResult as EpochResult, History as History, format_epoch as format_epoch
from .loop import fit as fit, train_epoch as train_epoch, validate_epoch as validate_epoch
from .losses import Loss as Loss, distillation_losses as distillation_losses, make_loss as make_loss, parse_class_weights as parse_class_weights, soft_cross_entropy as soft_cross_entropy
from .mixing import check_mixing as check_mixing, mix_batch as mix_batch
from .lr_finder import LRFinder as LRFinder, find_lr as find_lr
from .muon import Muon as Muon, muon_groups as muon_groups, newton_schulz as newton_schulz
from .optimizers import OPTIMIZERS as OPTIMIZERS, check_optimizer as check_optimizer, make_optimizer as make_optimizer
from .optimizers import parameter_groups as parameter_groups, register_optimizer as register_optimizer
from .probe import Probe as Probe, StrengthResult as StrengthResult, choose_neighbors as choose_neighbors, fit_probe as fit_probe, nearest_neighbors as nearest_neighbors, refit as refit, set_head as set_head
from .progress_bar import BarProgress as BarProgress, CountProgress as CountProgress, LineProgress as LineProgress, NotebookProgress as NotebookProgress
from .progress_bar import make_progress as make_progress, show_count as show_count
from .resuming import CheckpointCallback as CheckpointCallback, check_classes as check_classes, is_longer as is_longer, make_checkpoint as make_checkpoint, resume as resume
from .schedulers import SCHEDULES as SCHEDULES, Schedule as Schedule, lr_at_step as lr_at_step
from .setup import epoch_images as epoch_images, epoch_order as epoch_order, shrink_batch_size as shrink_batch_size, setup_training as setup_training, training_arguments as training_arguments
from .state import TrainSetup as TrainSetup, TrainState as TrainState, snapshot as snapshot
from .step import train_step as train_step
from .swa import make_average as make_average, make_swa as make_swa
