from .html import REPORT_FILES as REPORT_FILES, REPORT_PAGE as REPORT_PAGE, REPORT_STYLE as REPORT_STYLE, REPORT_TEMPLATE as REPORT_TEMPLATE, to_html as to_html
from .reports import CellFailure as CellFailure, KERNEL as KERNEL, Parameter as Parameter, Report as Report, cell_failure as cell_failure, check_injected as check_injected, check_kernel as check_kernel, check_name as check_name, check_parameters as check_parameters, check_report_run as check_report_run, convert_value as convert_value, declared_parameters as declared_parameters, execute_notebook as execute_notebook, find_notebook as find_notebook, keep_notebook as keep_notebook, kernel_manager as kernel_manager, read_notebook as read_notebook, report_names as report_names, run_parameters as run_parameters, run_report as run_report, run_table as run_table, to_overrides as to_overrides
from .environment import describe_environment as describe_environment, git_commit as git_commit
from .run_folder import IMAGES_FILE as IMAGES_FILE, Run as Run, SETUP_FILES as SETUP_FILES, check_existing_run as check_existing_run, check_run_dir as check_run_dir
from .run_folder import count_seen as count_seen, default_run_dir as default_run_dir, first_difference as first_difference, image_hashes as image_hashes
from .run_folder import resolve_run_dir as resolve_run_dir
from .running import HistoryWriter as HistoryWriter, TimerCallback as TimerCallback, check_run_config as check_run_config, estimate_run as estimate_run, new_model as new_model
from .running import summarize as summarize, train as train, write_figures as write_figures
