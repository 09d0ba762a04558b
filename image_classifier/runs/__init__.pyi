from .environment import describe_environment as describe_environment, git_commit as git_commit
from .html import REPORT_FILES as REPORT_FILES, to_html as to_html
from .report_execution import Report as Report, run_report as run_report
from .report_parameters import Parameter as Parameter, ReportNotebook as ReportNotebook, check_parameters as check_parameters
from .report_parameters import inspect_report as inspect_report, report_config as report_config
from .report_tables import config_table as config_table, files_table as files_table, headline as headline, results_table as results_table
from .run_folder import IMAGES_FILE as IMAGES_FILE, Run as Run, SETUP_FILES as SETUP_FILES, check_existing_run as check_existing_run
from .run_folder import check_run_dir as check_run_dir, count_seen as count_seen, default_run_dir as default_run_dir
from .run_folder import first_difference as first_difference, image_hashes as image_hashes, resolve_run_dir as resolve_run_dir
from .running import HistoryWriter as HistoryWriter, TimerCallback as TimerCallback, check_run_config as check_run_config
from .running import estimate_run as estimate_run, new_model as new_model, summarize as summarize, train as train, write_figures as write_figures
