from .bounds import DRIFT_LIMIT as DRIFT_LIMIT, FALSE_ALARMS as FALSE_ALARMS, repeats_bound as repeats_bound, share_bounds as share_bounds, share_deviations as share_deviations, size_range as size_range
from .checks import check_source as check_source, check_splits as check_splits, leaked_test_images as leaked_test_images
from .cross_validation import FOLDS as FOLDS, Fold as Fold, all_images as all_images, cross_val_probabilities as cross_val_probabilities, describe_cost as describe_cost, plan_folds as plan_folds, shorten_schedule as shorten_schedule
from .data_docs import write_docs as write_docs
from .duplicates import baseline_distance as baseline_distance, candidate_pairs as candidate_pairs, descriptors as descriptors, find_near_duplicates as find_near_duplicates, pair_distances as pair_distances, thumbnails as thumbnails
from .expectations import check_expectations as check_expectations, learn_suite as learn_suite, validate_suite as validate_suite
from .findings import DataReport as DataReport, Finding as Finding, ImageIndex as ImageIndex, ImageTable as ImageTable, LIST_HEAD as LIST_HEAD, NO_FINDINGS as NO_FINDINGS, equal_images as equal_images, exclude_list as exclude_list, imbalanced_classes as imbalanced_classes, near_images as near_images
from .label_errors import LabelErrors as LabelErrors, likely_label_errors as likely_label_errors, plot_label_errors as plot_label_errors
from .label_review import LabelIssue as LabelIssue, check_no_decision_lost as check_no_decision_lost, label_issues as label_issues, review_table as review_table, save_review as save_review, undecided as undecided
from .mirror_images import mirrored_classes as mirrored_classes
from .suites import COLUMNS as COLUMNS, EXPECTATION_KINDS as EXPECTATION_KINDS, Expectation as Expectation, Outcome as Outcome, Suite as Suite, SuiteResult as SuiteResult, read_suite as read_suite, write_suite as write_suite
