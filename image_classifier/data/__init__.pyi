from .archives import ArchiveLimits as ArchiveLimits, unpack as unpack, unpack_cached as unpack_cached, unpack_if_archive as unpack_if_archive
from .augment import AUGMENTATIONS as AUGMENTATIONS, Augment as Augment, Augmentation as Augmentation, make_augment as make_augment, parse_extra as parse_extra, register_augmentation as register_augmentation
from .cache import ABOUT as ABOUT, ARCHIVE as ARCHIVE, CacheEntry as CacheEntry, DECODED as DECODED, DOWNLOAD as DOWNLOAD, FEATURES as FEATURES, FEATURES_LOCK as FEATURES_LOCK, FINDINGS as FINDINGS, KINDS as KINDS, TRIALS as TRIALS, WEIGHTS as WEIGHTS, WEIGHTS_ABOUT as WEIGHTS_ABOUT, WEIGHTS_FILE as WEIGHTS_FILE, cache_entries as cache_entries, evict as evict, features_parts as features_parts, open_entry as open_entry, remove_entry as remove_entry
from .cached_images import exclusive_entry as exclusive_entry, load_or_decode as load_or_decode, pixels_key as pixels_key
from .dataset import Dataset as Dataset, IndexedArrayView as IndexedArrayView, Splits as Splits
from .decoding import decode as decode
from .download import CIFAR_SETS as CIFAR_SETS, DOWNLOADS as DOWNLOADS, IDX_FILES as IDX_FILES, IDX_SETS as IDX_SETS, RemoteFile as RemoteFile, WEB_RUNTIME as WEB_RUNTIME, cache_folder as cache_folder, fetch as fetch
from .corrections import KEEP as KEEP, LEAVE_OUT as LEAVE_OUT, REVIEW_COLUMNS as REVIEW_COLUMNS, REVIEW_TABLES as REVIEW_TABLES, ReviewedLabel as ReviewedLabel, check_decision_words as check_decision_words, apply_corrections as apply_corrections, read_corrections as read_corrections, read_review_table as read_review_table, spreadsheet_cell as spreadsheet_cell
from .exclude_list import load_source as load_source, quote_id as quote_id, read_exclude_list as read_exclude_list
from .headers import ImageFacts as ImageFacts, header_parts as header_parts, orientation as orientation, read_header as read_header
from .image_files import SUFFIXES as SUFFIXES, is_hidden as is_hidden, list_files as list_files, report_skipped as report_skipped, suffixes_of as suffixes_of
from .image_formats import DecodeError as DecodeError, Limits as Limits, sniff as sniff
from .loader import Batch as Batch, batches as batches, to_device as to_device
from .loading import channel_mean_std as channel_mean_std, compute_fingerprint as compute_fingerprint, load_data as load_data, load_evaluation_set as load_evaluation_set, take_share as take_share, typical_side as typical_side, statistics as statistics
from .policies import OPERATIONS as OPERATIONS, apply_operations as apply_operations, crop_and_resize as crop_and_resize, erase as erase
from .preprocess import Preprocess as Preprocess, resize as resize
from .csv_file import read_csv_column as read_csv_column
from .readers import READERS as READERS, check_reader as check_reader, read_source as read_source, register_reader as register_reader
from .shares import nested_shares as nested_shares
from .source import File as File, log_layout as log_layout, PARTS as PARTS, Source as Source, raise_problems as raise_problems, log as log
from .source_images import DecodedImages as DecodedImages, SourceImages as SourceImages
from .split_checks import missing_classes as missing_classes, repeated_images as repeated_images, split_groups as split_groups
from .splitting import connected_groups as connected_groups, hash_priorities as hash_priorities, pixel_digests as pixel_digests, split_source as split_source, stratified_rows as stratified_rows, stratified_sample as stratified_sample
from .transforms import affine as affine, color_jitter as color_jitter, horizontal_flip as horizontal_flip, sampling_grid as sampling_grid, translate as translate
