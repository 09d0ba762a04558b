from .factory import build_model as build_model, can_forward as can_forward, check_model as check_model, count_parameters as count_parameters, find_builder as find_builder, meta_forward as meta_forward, model_names as model_names, nearest_valid_size as nearest_valid_size, seeded_init as seeded_init, try_model as try_model
from .registry import Architecture as Architecture, ENTRY_POINT_GROUP as ENTRY_POINT_GROUP, MODELS as MODELS, register_model as register_model
from .resnets import BasicBlock as BasicBlock, resnet as resnet
from .simple import GridPool as GridPool, conv_block as conv_block, simple_cnn as simple_cnn
from .speed_net import SpeedNet as SpeedNet, Whitening as Whitening, speednet as speednet
from .tta import TTA_MODES as TTA_MODES, forward_tta as forward_tta
