from .factory import activation_bytes as activation_bytes, architecture_of as architecture_of, build_model as build_model, check_model as check_model, count_parameters as count_parameters, find_builder as find_builder, model_names as model_names, nearest_valid_size as nearest_valid_size, seeded_init as seeded_init, trial_logits as trial_logits, try_model as try_model
from .heads import changed_tensors as changed_tensors, evaluating as evaluating, feature_count as feature_count, find_classifier as find_classifier, layer_inputs as layer_inputs
from .pretrained import adopt_normalization as adopt_normalization, adopt_tensors as adopt_tensors, load_pretrained as load_pretrained, load_weights_file as load_weights_file, published_hash as published_hash, published_tensors as published_tensors
from .published import PACKAGED as PACKAGED, PretrainedWeights as PretrainedWeights, packaged_weights as packaged_weights, pretrained_names as pretrained_names, pretrained_weights as pretrained_weights
from .registry import Architecture as Architecture, ENTRY_POINT_GROUP as ENTRY_POINT_GROUP, MODELS as MODELS, register_model as register_model
from .resnets import resnet as resnet
from .simple import simple_cnn as simple_cnn
from .speed_net import SpeedNet as SpeedNet, speednet as speednet
from .tta import TTA_MODES as TTA_MODES, forward_tta as forward_tta
