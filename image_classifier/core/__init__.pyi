from .alerts import alert as alert, parse_hook as parse_hook
from .device import autocast as autocast, choose_device as choose_device, choose_precision as choose_precision, deterministic as deterministic, is_out_of_memory as is_out_of_memory, keep_freed_memory as keep_freed_memory, seeded_rng as seeded_rng, threads as threads, translate_torch_errors as translate_torch_errors
from .errors import ArtifactError as ArtifactError, ConfigError as ConfigError, DISTRIBUTION as DISTRIBUTION, DataError as DataError, DivergedError as DivergedError, ImageClassifierError as ImageClassifierError, InvalidValueError as InvalidValueError, ResourceError as ResourceError, check_type as check_type, escaped as escaped, join_problems as join_problems, nearest as nearest, plain_warnings as plain_warnings, quoted as quoted, require as require, suggestion as suggestion
from .io import FULL_DISK_ERRORS as FULL_DISK_ERRORS, WriteRetries as WriteRetries, atomic_write as atomic_write, is_number as is_number, missing_path_hint as missing_path_hint, parse_json as parse_json, path_from_text as path_from_text, path_to_text as path_to_text, read_bytes as read_bytes, read_json as read_json, writable_folder as writable_folder, write_json as write_json, writing_to as writing_to
from .locks import LOCK as LOCK, acquire_lock as acquire_lock, locked as locked
from .manifest import MANIFEST as MANIFEST, check_format as check_format, check_manifest as check_manifest, manifest_files as manifest_files, sha256_of as sha256_of, write_manifest as write_manifest
from .own_folders import MARKER as MARKER, SIGNATURE as SIGNATURE, atomic_folder as atomic_folder, check_free as check_free, existing_folder as existing_folder, own_folder as own_folder, own_folder_if_done as own_folder_if_done, own_folder_kind as own_folder_kind, remove_files as remove_files, remove_stale_temp as remove_stale_temp, unlisted_names as unlisted_names
from .random import hash_parts as hash_parts, permutation as permutation, uniform as uniform
from .registries import NAME_PATTERN as NAME_PATTERN, registered_code as registered_code, registration as registration, summarize as summarize
from .signals import Stop as Stop, Terminated as Terminated, install_handlers as install_handlers
from .tables import html_table as html_table
from .tensors import check_storable as check_storable, check_state_dict as check_state_dict, load_state as load_state, load_tensors as load_tensors, save_tensors as save_tensors
from .user_code import code_place as code_place, import_code as import_code
