from .alerts import alert as alert, parse_hook as parse_hook
from .device import autocast as autocast, available_cores as available_cores, available_memory as available_memory, choose_device as choose_device, choose_precision as choose_precision, deterministic as deterministic, is_out_of_memory as is_out_of_memory, keep_freed_memory as keep_freed_memory, seeded_rng as seeded_rng, threads as threads, translate_torch_errors as translate_torch_errors
from .errors import ArtifactError as ArtifactError, ConfigError as ConfigError, DataError as DataError, DivergedError as DivergedError, ImageClassifierError as ImageClassifierError, ResourceError as ResourceError, escaped as escaped, join_problems as join_problems, nearest as nearest, quoted as quoted, require as require, suggestion as suggestion
from .io import FULL_DISK_ERRORS as FULL_DISK_ERRORS, WriteRetries as WriteRetries, atomic_folder as atomic_folder, atomic_write as atomic_write, is_number as is_number, missing_path_hint as missing_path_hint, parse_json as parse_json, read_bytes as read_bytes, read_json as read_json, remove_stale_temp as remove_stale_temp, writable_folder as writable_folder, write_json as write_json, writing_to as writing_to
from .locks import LOCK as LOCK, locked as locked
from .manifest import MANIFEST as MANIFEST, check_format as check_format, check_manifest as check_manifest, sha256_of as sha256_of, write_manifest as write_manifest
from .random import hash_parts as hash_parts, permutation as permutation, uniform as uniform
from .signals import Stop as Stop, Terminated as Terminated, install_handlers as install_handlers
from .tables import html_table as html_table
from .tensors import check_state_dict as check_state_dict, load_state as load_state, load_tensors as load_tensors, save_tensors as save_tensors
