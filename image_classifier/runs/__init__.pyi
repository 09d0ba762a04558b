from .choices import choose_settings as choose_settings
from .comparing import RunComparison as RunComparison, compare_runs as compare_runs, comparison_headline as comparison_headline, run_paths as run_paths
from .environment import git_commit as git_commit
from .html import to_html as to_html
from .initial_weights import adopt_preprocess as adopt_preprocess
from .learning_curves import CurveRuns as CurveRuns, SHARES as SHARES, train_learning_curve as train_learning_curve, write_learning_curve as write_learning_curve
from .report_execution import Report as Report, run_report as run_report
from .report_parameters import Parameter as Parameter, ReportNotebook as ReportNotebook, check_parameters as check_parameters
from .report_parameters import inspect_report as inspect_report, report_config as report_config
from .report_tables import abstention_table as abstention_table, calibration_table as calibration_table, config_table as config_table, describe_model as describe_model, files_table as files_table, headline as headline, report_headline as report_headline, results_table as results_table
from .run_files import TimerCallback as TimerCallback
from .run_warnings import RUN_CHECKS as RUN_CHECKS, result_warnings as result_warnings
from .run_folder import Run as Run
from .running import check_run_config as check_run_config, estimate_run as estimate_run, find_lr_run as find_lr_run, new_model as new_model, train as train
from .seeds import SeedRuns as SeedRuns, train_seeds as train_seeds
from .seen_images import count_seen as count_seen
