"""What every test has: a home of its own, the real data when it is there, and notebooks read by nbdev's rules. Nothing depends on the user's
settings, caches, locale and time zone, on the working folder, or on what lies in the checkout's `runs/`."""
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import nbval.kernel
import pytest
from literate import ROOT, skips_execution, why_skipped
from warm_kernels import warm_kernels

# Caches, configuration, kernel and temporary files of this session: nothing is written to, or read from, the user's own.
FOLDERS = {"HOME": "home", "TMPDIR": "tmp", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "share",
           "MPLCONFIGDIR": "matplotlib", "IPYTHONDIR": "ipython",
           "JUPYTER_CONFIG_DIR": "jupyter/config", "JUPYTER_DATA_DIR": "jupyter/data", "JUPYTER_RUNTIME_DIR": "jupyter/runtime"}

# Settings of the shell that change what programs print, read or start, and those of a surrounding training.
UNUSUAL = ("LC_", "LANG", "JUPYTER", "JPY_", "IPYTHON", "IPYKERNEL", "MPL", "MATPLOTLIB", "PAPERMILL", "HYDRA", "XDG_", "TORCHELASTIC", "ACCELERATE_",
           "PYTHONWARNINGS", "PYTHONIOENCODING", "PYTHONSTARTUP", "PYTHONINSPECT", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "COLUMNS", "LINES", "TQDM_",
           "GIT_", "VIRTUAL_ENV", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

# Files of tests that start other processes or train for long: `make quick` leaves them out.
SLOW = {"test_cache", "test_checks", "test_cli", "test_distributed", "test_effects", "test_expectations", "test_export", "test_label_errors",
        "test_limits", "test_notebooks", "test_other_files", "test_page", "test_pretrained", "test_reports", "test_resume", "test_run_warnings", "test_runs", "test_same_everywhere", "test_serving", "test_signing", "test_web"}

# Files that train many times and look at no figure, on data whose names are plain: drawing takes a third of such a training.
UNDRAWN = {"test_augment", "test_checks", "test_corrections", "test_effects", "test_fine_tuning", "test_other_files", "test_own_code", "test_pretrained",
           "test_resume", "test_run_warnings", "test_runs", "test_training_tools"}

# The file of tests in which coverage is measured: the notebooks' own proofs alone run 93 % of the package. (The few notebooks that nbval runs in
# kernels are measured too.) In Python 3.11, measuring takes half as long again as what is measured. This file comes first, before others
# import the package unmeasured.
TRACED = "test_notebooks"
DOT = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63600000000200"
                    "0148afa4710000000049454e44ae426082")  # a PNG file of one pixel


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: starts other processes or trains for long")
    if "PYTHONWARNINGS" in os.environ:
        sys.warnoptions.clear()
        warnings.resetwarnings()
    for variable in [name for name in os.environ if name.startswith(UNUSUAL)]:
        del os.environ[variable]
    os.environ |= {"LC_ALL": "C.UTF-8", "TZ": "UTC", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": str(ROOT)}
    time.tzset()
    os.umask(0o022)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's & switches Ctrl-C off, for what is started from here too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # tmp_path stays where pytest keeps the last three
    config.session_home = Path(tempfile.mkdtemp(prefix="ic-tests-"))
    for variable, name in FOLDERS.items():
        folder = config.session_home / name
        folder.mkdir(parents=True)
        os.environ[variable] = str(folder)
    tempfile.tempdir = os.environ["TMPDIR"]
    (config.session_home / "work").mkdir()
    if isinstance(getattr(config.option, "cov_config", None), str):
        config.option.cov_config = str(ROOT / config.option.cov_config)  # nbval looks for it from the working folder
    config.fork_servers = warm_kernels(nbval.kernel) if hasattr(os, "pidfd_open") else []


def pytest_unconfigure(config):
    for server in config.fork_servers:
        server.close()
    shutil.rmtree(config.session_home, ignore_errors=True)


def pytest_collection_modifyitems(items):
    "nbval by nbdev's rules: cleaned notebooks have no execution counts, and directives say what is not run."
    asleep = {}
    # Workers that begin with the long files end at the same time.
    items.sort(key=lambda item: (item.path.stem != TRACED, item.path.stem not in SLOW))
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
        cell = getattr(item, "cell", None)
        if cell is None:
            continue
        if cell.execution_count is None:
            cell.execution_count = 0  # nbval refuses a null count beside stored outputs
        if item.path not in asleep:
            asleep[item.path] = skips_execution(item.path)
        if reason := "skip_exec: true" if asleep[item.path] else why_skipped(cell):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def own_working_folder(pytestconfig):
    "Tests run in an empty folder, wherever pytest was started."
    before = os.getcwd()
    os.chdir(pytestconfig.session_home / "work")
    yield
    os.chdir(before)


@pytest.fixture(scope="module", autouse=True)
def untraced(request):
    "In files other than `TRACED`, and the processes that they start, coverage is not measured."
    measuring = getattr(request.config.pluginmanager.getplugin("_cov"), "cov_controller", None)
    if measuring is None or request.path.stem == TRACED:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        measuring.pause()
        yield
        measuring.resume()


@pytest.fixture(scope="module", autouse=True)
def undrawn(request):
    "In the files of `UNDRAWN` figures are made but not drawn; the tests of figures, commands, reports and notebooks draw them."
    if request.path.stem not in UNDRAWN:
        yield
        return
    from image_classifier.metrics import Figure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "png", lambda self: DOT)
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    "The folder of real data sets: IMAGE_CLASSIFIER_DATA, else ../shared/data beside the checkout."
    folder = Path(os.environ.get("IMAGE_CLASSIFIER_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real data: IMAGE_CLASSIFIER_DATA names no folder, and ../shared/data is absent")
    return folder
