"""The workflows: what each may do and uses, the steps with a decision in them, and the comment that a pull request gets."""
import ast
import itertools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".github" / "workflows"
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.yml"))}
WORKFLOWS = {name: yaml.safe_load(text) for name, text in TEXTS.items()}
JOBS = [(name, job) for name, flow in WORKFLOWS.items() for job in flow["jobs"]]
NODE = shutil.which("node")
every_workflow = pytest.mark.parametrize("name", WORKFLOWS)
every_job = pytest.mark.parametrize("name, job", JOBS)
needs_node = pytest.mark.skipif(not NODE, reason="the comment's script runs in Node, which is not installed")
needs_bash = pytest.mark.skipif(not shutil.which("bash"), reason="the steps run in bash, which is not installed")


def triggers(name: str) -> dict:
    "What starts a workflow; YAML takes `on` for true."
    found = WORKFLOWS[name][True]
    return found if isinstance(found, dict) else dict.fromkeys([found] if isinstance(found, str) else found)


def steps(name: str, job: str) -> list[dict]:
    return WORKFLOWS[name]["jobs"][job].get("steps", [])


def step(name: str, job: str, title: str) -> dict:
    return next(one for one in steps(name, job) if one.get("name") == title)


# ---------------------------------------------------------------- rights and limits

@every_workflow
def test_every_action_is_pinned_by_commit_with_its_version(name):
    "A tag can be moved to other code; a commit cannot."
    for line in re.findall(r"^\s*(?:- )?uses: (.*)$", TEXTS[name], re.M):
        assert line.startswith("./") or re.fullmatch(r"[\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_an_action_has_one_version_in_all_workflows():
    found = {match.groups() for text in TEXTS.values() for match in re.finditer(r"uses: ([\w-]+/[\w-]+)\S*@(\w+ # \S+)", text)}
    assert len(found) == len({action for action, _ in found}), sorted(found)


@every_workflow
def test_a_workflow_may_read_at_most_and_its_runs_do_not_pile_up(name):
    assert WORKFLOWS[name]["permissions"] in ({}, {"contents": "read"})
    group = WORKFLOWS[name]["concurrency"]["group"]
    assert group.startswith(name.removesuffix(".yml") + "-"), "github.workflow is the caller's name: a called workflow would cancel its caller"


@every_job
def test_every_job_has_a_time_limit_and_no_more_rights_than_listed_here(name, job):
    found = WORKFLOWS[name]["jobs"][job]
    assert found.get("timeout-minutes", 99) <= 75 or "uses" in found
    allowed = {("ci.yml", "publish-docs"): {"pages", "id-token"}, ("release.yml", "pypi"): {"id-token", "attestations"},
               ("release.yml", "images"): {"packages", "id-token", "attestations"}, ("security.yml", "codeql"): {"security-events"},
               ("report-comment.yml", "comment"): {"pull-requests"}}
    written = {right for right, level in found.get("permissions", {}).items() if level == "write"}
    assert written == allowed.get((name, job), set())
    assert "secrets" not in json.dumps(found).replace("secrets.GITHUB_TOKEN", "")


@every_workflow
def test_no_stranger_gets_rights_or_into_a_shell(name):
    assert "pull_request_target" not in triggers(name)
    for job in WORKFLOWS[name]["jobs"]:
        for one in steps(name, job):
            script = str(one.get("run", "")) + str(one.get("with", {}).get("script", ""))
            assert "${{" not in script, f"{job}: pass it in env, a shell would execute what a stranger wrote"
            if one.get("uses", "").startswith("actions/checkout@"):
                assert one["with"]["persist-credentials"] is False


def test_only_the_comment_runs_with_rights_after_foreign_code_and_it_executes_nothing_of_it():
    assert [name for name in WORKFLOWS if "workflow_run" in triggers(name)] == ["report-comment.yml"]
    used = [one["uses"].partition("@")[0] for one in steps("report-comment.yml", "comment")]
    assert used == ["actions/github-script", "actions/download-artifact", "actions/github-script"]
    assert WORKFLOWS["report.yml"]["name"] in triggers("report-comment.yml")["workflow_run"]["workflows"]


@every_workflow
def test_pipes_fail_where_one_of_their_commands_does(name):
    "The default shell takes the exit code of the last command of a pipe."
    piped = [one["run"] for job in WORKFLOWS[name]["jobs"] for one in steps(name, job) if " | " in one.get("run", "")]
    assert not piped or WORKFLOWS[name]["defaults"]["run"]["shell"] == "bash"


# ---------------------------------------------------------------- what is in them

def test_one_job_needs_everything_that_a_change_must_pass():
    jobs = WORKFLOWS["ci.yml"]["jobs"]
    assert set(jobs["required"]["needs"]) == set(jobs) - {"required", "publish-docs"} and jobs["required"]["if"] == "always()"
    assert jobs["publish-docs"]["needs"] == "required"
    called = {job["uses"] for flow in WORKFLOWS.values() for job in flow["jobs"].values() if "uses" in job}
    assert called == {f"./.github/workflows/{name}" for name in WORKFLOWS if "workflow_call" in triggers(name)}


@needs_bash
@pytest.mark.parametrize("results, code", [("success success", 0), ("success skipped", 1), ("cancelled success", 1), ("success failure", 1)])
def test_the_required_job_fails_unless_all_have_passed(results, code):
    script = step("ci.yml", "required", "All others have passed")["run"]
    assert subprocess.run(["bash", "-eo", "pipefail", "-c", script], env=os.environ | {"RESULTS": results}, capture_output=True).returncode == code


def test_linux_runs_the_two_commands_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [one["run"].removesuffix(" PYTHON=python") for one in steps("test.yml", "test") if "run" in one]
    assert commands == ["make report", "make test"] and all(f"```sh\n{'git clone' if command == 'make report' else command}" in readme for command in commands)


def test_every_make_target_and_image_target_exists():
    makefile, dockerfile = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "Dockerfile"))
    for text in TEXTS.values():
        assert all(f"\n{target}: " in makefile for target in re.findall(r"\bmake (\w+) PYTHON", text))
        assert all(re.search(rf"^FROM .* AS {target}$", dockerfile, re.M) for target in re.findall(r"(?:--target |\n +target: )(\w+)", text))


def test_nothing_is_published_unless_the_tests_and_the_images_have_passed():
    jobs = WORKFLOWS["release.yml"]["jobs"]
    assert [jobs[name]["uses"] for name in ("test", "smoke")] == ["./.github/workflows/test.yml", "./.github/workflows/docker.yml"]
    assert set(jobs["pypi"]["needs"]) == {"build", "rebuild", "test", "smoke"} and set(jobs["images"]["needs"]) == {"rebuild", "test", "smoke"}
    assert not any("if" in jobs[name] for name in ("pypi", "images")), "a condition could let a job run after one that has failed"


def test_a_scheduled_run_does_not_wait_for_those_of_changes():
    for name in WORKFLOWS:
        if "schedule" in triggers(name):
            assert "github.event_name" in WORKFLOWS[name]["concurrency"]["group"], name


def test_a_release_caches_nothing():
    "A cache can be filled by a branch; a package must not hold what it holds."
    for name in ("release.yml", "docker.yml"):
        assert not re.search(r"actions/cache|(?<!no-)\bcache:|cache-from", TEXTS[name]), name


@needs_bash
@pytest.mark.parametrize("does, code", [
    ('echo \'{"dependencies": [{"name": "pillow", "vulns": [{"id": "PYSEC-1"}]}]}\' > planted.json; exit 1', 0),
    ('echo \'{"dependencies": [{"name": "pillow", "vulns": []}]}\' > planted.json', 1), ("exit 1", 1), ("exit 0", 1)])
def test_an_audit_that_finds_nothing_in_an_old_package_is_not_believed(tmp_path, does, code):
    done = run_step(tmp_path, step("security.yml", "audit", "It finds an old package that is planted"), {"pip-audit": does})
    assert done.returncode == code, done.stderr


def run_step(folder: Path, one: dict, programs: dict[str, str], **environment: str) -> subprocess.CompletedProcess:
    "Run a step in a folder, with programs that do what is given instead of what they do."
    for name, does in programs.items():
        path = folder / name if "/" in name else folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{does}\n")
        path.chmod(0o755)
    variables = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "RUNNER_TEMP": str(folder / "temp")} | environment
    return subprocess.run(["bash", "-eo", "pipefail", "-c", one["run"]], cwd=folder, env=variables, capture_output=True, text=True)


@needs_bash
@pytest.mark.parametrize("base, does, code, comment", [
    ("success", "echo '## Comparison of runs' > ../comment/comment.md", 0, "## Comparison of runs\n"),
    ("success", "echo '## Comparison of runs' > ../comment/comment.md; echo 'error: less accurate' >&2; exit 4", 4, "## Comparison of runs\n"),
    ("success", "echo 'error: the test images differ' >&2; exit 3", 3, "## Comparison of runs\n\n```\nerror: the test images differ\n```\n"),
    ("failure", "exit 9", 0, "## Comparison of runs\n\n```\nthe base cannot be trained, so nothing is compared\n```\n")])
def test_a_comparison_that_fails_or_is_refused_leaves_a_comment_and_its_exit_code(tmp_path, base, does, code, comment):
    for folder in ("runs/seeds", "runs/report", "temp/base/runs/seeds"):
        (tmp_path / folder).mkdir(parents=True)
    done = run_step(tmp_path, step("report.yml", "report", "Compare"), {".venv/bin/ic": does}, BASE=base, NUMBER="7", GITHUB_STEP_SUMMARY=str(tmp_path / "summary"))
    assert done.returncode == code, done.stderr
    assert (tmp_path / "made/comment/comment.md").read_text() == (tmp_path / "summary").read_text() == comment
    assert (tmp_path / "made/comment/pull_request.txt").read_text() == "7\n" and ("::warning::" in done.stdout) == (base == "failure")


def saved_from_the_page() -> dict[str, str]:
    "The texts that the page about reports on pull requests gives its readers to save: `settings` and `workflow`."
    found = {}
    for cell in json.loads((ROOT / "nbs" / "howto" / "ci.ipynb").read_text(encoding="utf-8"))["cells"]:
        for node in ast.parse("".join(cell["source"])).body if cell["cell_type"] == "code" else []:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                found[node.targets[0].id] = node.value.value
    return found


@needs_bash
@pytest.mark.slow
def test_the_workflow_of_the_page_sees_that_a_pull_request_is_worse(tmp_path, monkeypatch):
    "Its steps run as they stand, in a repository with a merge and its base; `ic` writes down its words and its folder, and is then run here."
    from image_classifier.cli import main
    import image_classifier.runs.run_files as files
    monkeypatch.setattr(files, "write_figures", lambda *words: None)  # half of so short a training is spent
    monkeypatch.setattr(files, "fit_detector", lambda *words: (None, {"threshold": None, "reason": "not needed"}))  # on these two
    page = saved_from_the_page()
    tiny = yaml.safe_load(page["settings"])
    tiny["hyperparameters"] |= {"num_epochs": 1, "batch_size": 16}
    tiny["data"]["train_fraction"], tiny["calibrate"] = 0.3, False
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    for rate in (0.05, 1e-9):
        tiny["hyperparameters"]["learning_rate"] = rate
        (tmp_path / "training.yaml").write_text(yaml.safe_dump(tiny))
        subprocess.run([*git, "add", "training.yaml"], check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", f"a learning rate of {rate}"], check=True)
    codes = []
    for one in yaml.safe_load(page["workflow"])["jobs"]["report"]["steps"]:
        if re.search(r"^\s*ic ", one.get("run", ""), re.M):
            run_step(tmp_path, one, {"ic": f'printf "%s\\n" "$PWD" "$*" >> {tmp_path}/called'}, GITHUB_STEP_SUMMARY=str(tmp_path / "summary"))
            folder, words = (tmp_path / "called").read_text().splitlines()
            (tmp_path / "called").unlink()
            monkeypatch.chdir(folder)
            codes.append(main(words.split()))
    assert codes == [0, 0, 4]
    assert "less accurate" in (tmp_path / "comparison.md").read_text(encoding="utf-8")


# ---------------------------------------------------------------- the comment

REPORT = "## Comparison of runs\n\n**no difference, [−0.01, +0.01].**\n\n| a&#124; | b |\n| --- | --- |\n| 1 | 2 |\n\n```mermaid\n%%{init: {\"themeVariables\": {\"xyChart\": {\"plotColorPalette\": \"#0072B2, #D55E00\"}}}}%%\n" \
         "xychart-beta\n    line [1, 2]\n```\n\n<details><summary>Confusion</summary>\n\nx\n\n</details>\n"
HEAD, BOT = "c" * 40, {"login": "github-actions[bot]", "type": "Bot"}
MARKER = "<!-- image_classifier: model report -->"


def trained(**changes) -> dict:
    "The run of report.yml that has ended, as GitHub describes it."
    return {"id": 5, "head_sha": HEAD, "head_branch": "better", "head_repository": {"id": 1}, "conclusion": "success", "html_url": "https://github.com/owner/project/actions/runs/5"} | changes


def pull(**head) -> dict:
    return {"number": 7, "state": "open", "head": {"sha": HEAD, "ref": "better", "repo": {"id": 1}} | head}


def case(folder: Path | None = None, run: dict | None = None, artifacts=(), pulls=None, comments=()) -> dict:
    "What the script finds: the files of the artifact, the run that ended, and what GitHub knows."
    return {"folder": str(folder), "payload": {"workflow_run": run or trained()}, "artifacts": list(artifacts),
            "pulls": {"7": pull()} if pulls is None else pulls, "comments": list(comments)}


def played(title: str, *cases: dict) -> list[dict]:
    "Run a script of the workflow for each case; return what it asked GitHub to do, and what it said."
    given = {"script": step("report-comment.yml", "comment", title)["with"]["script"], "cases": cases}
    done = subprocess.run([NODE, str(ROOT / "tests" / "workflow_script.js")], input=json.dumps(given), capture_output=True, encoding="utf-8", check=True)
    told = json.loads(done.stdout)
    assert not [one["error"] for one in told if "error" in one]
    return told


def posted(told: dict) -> list[tuple[str, dict]]:
    return [(name, parameters) for name, parameters in told["calls"] if name in ("createComment", "updateComment")]


@pytest.fixture
def artifact(tmp_path):
    "Write what report.yml uploads, each time into another folder; return the folder."
    numbers = itertools.count()
    def write(text=REPORT, number="7\n"):
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        (folder / "comment.md").write_text(text, encoding="utf-8")
        (folder / "pull_request.txt").write_text(number, encoding="utf-8")
        return folder
    return write


def shown(artifact, *texts: str) -> list[str]:
    "What is posted of each report."
    return [posted(told)[0][1]["body"].partition("\n\n")[2] for told in played("Comment", *(case(artifact(text)) for text in texts))]


@needs_node
def test_a_first_report_is_posted_and_the_next_one_replaces_it(artifact):
    (name, first), = posted(played("Comment", case(artifact()))[0])
    assert name == "createComment" and (first["owner"], first["repo"], first["issue_number"]) == ("owner", "project", 7)
    assert first["body"].startswith(MARKER) and HEAD in first["body"] and "[run](https://github.com/owner/project/actions/runs/5)" in first["body"]
    comments = [{"id": 1, "user": {"login": "somebody", "type": "User"}, "body": first["body"]}, {"id": 2, "user": BOT, "body": "another bot's text"},
                {"id": 3, "user": None, "body": MARKER}, {"id": 4, "user": BOT, "body": first["body"]}]
    later, foreign = played("Comment", case(artifact(), trained(conclusion="failure"), comments=comments), case(artifact(), comments=comments[:3]))
    (name, second), = posted(later)
    assert name == "updateComment" and second["comment_id"] == 4 and "**The check has failed.**" in second["body"]
    assert posted(foreign)[0][0] == "createComment", "a person who copies the marker is not overwritten"


@needs_node
def test_a_report_of_something_else_is_not_posted(artifact):
    cases = {"newer commit": (trained(head_sha="d" * 40), None), "closed": (trained(), {"7": pull() | {"state": "closed"}}), "no such pull": (trained(), {}),
             "another fork's": (trained(head_repository={"id": 2}), None), "another branch": (trained(head_branch="other"), None),
             "the fork is deleted": (trained(), {"7": pull(repo=None)}), "it was deleted earlier": (trained(head_repository=None), {"7": pull(repo=None)}),
             "the run's fork is deleted": (trained(head_repository=None), {"7": pull()})}
    for why, told in zip(cases, played("Comment", *(case(artifact(), run, pulls=pulls) for run, pulls in cases.values()))):
        assert not posted(told) and told["notices"] + told["warnings"], why


@needs_node
def test_a_pull_request_from_a_fork_gets_its_comment_in_the_project(artifact):
    told, = played("Comment", case(artifact(), trained(head_repository={"id": 99}), pulls={"7": pull(repo={"id": 99})}))
    (name, parameters), = posted(told)
    assert name == "createComment" and (parameters["owner"], parameters["repo"]) == ("owner", "project")


@needs_node
def test_a_number_that_the_artifact_makes_up_reaches_nothing(artifact):
    numbers, pulls = ["", "8\n", "0", "-7", "7; rm", "7e0", "../7", "7" * 30, "7\n8", "٧"], {"7": pull(), "8": pull(sha="e" * 40)}
    for number, told in zip(numbers, played("Comment", *(case(artifact(number=number), pulls=pulls) for number in numbers))):
        assert not posted(told) and told["notices"] + told["warnings"], number


@needs_node
def test_an_artifact_that_is_incomplete_or_no_plain_file_posts_nothing(artifact):
    damages = {"missing": lambda file: None, "folder": Path.mkdir, "link": lambda file: file.symlink_to("/etc/hostname"),
               "empty": lambda file: file.write_text(" \n"), "huge": lambda file: file.write_bytes(b"a" * 1_000_001)}
    folders = [artifact() for _ in damages]
    for folder, damage in zip(folders, damages.values()):
        (folder / "comment.md").unlink()
        damage(folder / "comment.md")
    for name, told in zip(damages, played("Comment", *map(case, folders))):
        assert not posted(told) and told["warnings"], name


@needs_node
def test_the_artifact_is_looked_at_before_it_is_downloaded():
    small = {"id": 3, "name": "report-comment", "size_in_bytes": 2000, "expired": False}
    expired, large = small | {"id": 9, "expired": True}, small | {"size_in_bytes": 300_001}
    found, *refused = played("Find the artifact", *(case(artifacts=one) for one in ([small, small | {"id": 4}, expired], [], [expired], [large])))
    assert found["outputs"] == {"artifact": 4}
    assert all(not told["outputs"] and told["notices"] + told["warnings"] for told in refused)
    (_, asked), = found["calls"]
    assert (asked["run_id"], asked["name"]) == (5, "report-comment")
    assert asked["name"] in [one["with"]["name"] for one in steps("report.yml", "report") if "upload-artifact" in one.get("uses", "")]


@needs_node
def test_a_long_report_is_cut_and_says_so(artifact):
    for told in played("Comment", *(case(artifact(text)) for text in ("a" * 900_000, "@😀" * 60_000, "&" * 200_000))):
        (_, parameters), = posted(told)
        assert len(parameters["body"].encode("utf-16-le")) // 2 <= 65_000 and "too long for a comment" in parameters["body"]
        parameters["body"].encode("utf-8")  # no half of a character


LEADS = ("", "> ", "- ", "1. ", "12) ", "> 1. ", "* + ", "  ", "[^1]: ")
HOSTILE = [  # a text, and what must not be left of it
    ("@team and @owner/team", r"@\w"), ("fixes #12, owner/other#3, GH-4", r"#\d|GH-\d"), ("&#64;team &commat;team &#x40;team", r"&(?!amp;)"),
    ("[click](https://evil.example)", r"\]\(|://"), ("[click][1]\n\n[1]: /evil", r"\]\[|\]:"), ("https://evil.example www.evil.example", r"://|www\.e"),
    ("<img src=x onerror=alert(1)> <a href=x>", r"<"), (f"{MARKER} <!-- x", r"<"), ("![x](http://evil.example/x.png)", r"\]\("), ("<details open onclick=x>", r"<"),
    ("$\\href{x}{y}$", r"\$"), ("<https://evil.example>", r"<|://"),
    ("_www.evil.example_ https:\\/\\/evil.example", r"www\.|:\\?/"), ("_#12_ #12a _GH-12_ GH\\-12", r"#\d|GH\\?-"),
    *((f"{lead}{fence}{kind}\n{' ' * len(lead)}x\n{' ' * len(lead)}{fence}\n", rf"(`{{3}}|~{{3}})\s*{kind}")
      for lead in LEADS for fence in ("```", "~~~~") for kind in ("geojson", " stl", "math")),
    *((f"{lead}```mermaid\n{chart}\n```", "```mermaid") for lead in LEADS for chart in ("flowchart LR\nA-->B\nclick A href \"//evil.example\"", "xychart-beta\nline [1]\nclick A",
      "%%{init: {\"themeCSS\": \"x\"}}%%\nxychart-beta\nline [1]", "---\ntitle: x\n---\nxychart-beta", "xychart-beta\ntitle \"<a href=//evil.example>\"")),
    ("a\\$ b\\\\\\$ c\\~~~ d\\``` e\\<b>", r"(?<!\\)(\\\\)*\\[$&]"),
    *((f"a{hidden}b", hidden) for hidden in "\u202e\u200b\x1b\u061c\u00ad\U000e0041\u3164\u034f\u2028\x85\u180e"),
    ("<details>\n```\n<img src=x>\n```", r"s>\n```"), ("~~~\n```\n~~~\n<img src=x>", r"<img"), ("- ```\n<img src=x>\n", "<img"),
    ("````\n```\n<b>\n````\n<img>", "<img"), ("``` `\n<img>", "<img"),
    ("`a` <img> `b`", "<img"), ("a ` b <img>", "<img"), ("<summary>\n`<img> &commat;a [x](y)`", r"<img|&c|\]\("), ("`a | b <img>` | &#64;", r"<img|&#64")]


@needs_node
def test_hostile_text_notifies_nobody_links_nowhere_and_draws_nothing(artifact):
    for (text, pattern), left in zip(HOSTILE, shown(artifact, *(text for text, _ in HOSTILE))):
        assert re.search(pattern, text, re.I) and left and not re.search(pattern, left, re.I), text


@needs_node
def test_what_ic_compare_writes_is_shown_as_it_is(artifact):
    "The library escapes names from outside so that the filter of the workflow finds nothing to change."
    from types import SimpleNamespace
    from image_classifier.core import markdown_table
    from image_classifier.metrics.comparison_markdown import markdown_curves
    names = ["@team", "<b>|`x`", "[a](http://b.c)", "#1", "$x$", "_a_ *b* ~c~", "&#64;", "a\nb"]
    table = markdown_table(names, [names])
    curves = markdown_curves({name: [[SimpleNamespace(valid_loss=value, valid_accuracy=value) for value in (1e-9, 0.5, 1e6)]] for name in "ab"})
    ours, escaped, drawn = shown(artifact, REPORT, table, curves)
    assert ours == REPORT and escaped.replace("\u200b", "") == table.replace("\u200b", "") and drawn == curves and drawn.count("```mermaid") == 2


@needs_node
def test_code_is_shown_as_it_is_and_nothing_gets_out_of_it(artifact):
    error = "## Comparison of runs\n\n```\nerror: a < b & c $x, see @me, #1 and https://a.b: <img>\n```\n"
    assert shown(artifact, error, "`a < b & c`, ``x ` y``", "x\n~~~~ diff\n~~~\n````\n~~~~\n<y>", "<details>\n \u00a0\n```\n<img>") == [
        error, "`a < b & c`, ``x ` y``", "x\n\n`````\n~~~\n````\n`````\n&lt;y>", "<details>\n \u00a0\n\n```\n<img>\n```"]


# ---------------------------------------------------------------- linters, where they are installed

LINTERS = {"check-jsonschema": ["--builtin-schema", "vendor.github-workflows", *map(str, sorted(FOLDER.glob("*.yml")))],
           "zizmor": ["--offline", "--no-progress", str(ROOT / ".github")], "actionlint": list(map(str, sorted(FOLDER.glob("*.yml"))))}


@pytest.mark.parametrize("tool", LINTERS)
def test_linters_find_nothing(tool):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run([tool, *LINTERS[tool]], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_shellcheck_finds_nothing():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    for name, job in JOBS:
        for one in steps(name, job) if job != "windows" else []:
            if "run" in one:
                flow, own = WORKFLOWS[name], WORKFLOWS[name]["jobs"][job]
                given = itertools.chain(*(part.get("env", {}) for part in (flow, own, one)))
                script = "set -eo pipefail\n" + "".join(f"export {variable}=x\n" for variable in given) + one["run"]
                done = subprocess.run(["shellcheck", "--shell", "bash", "-"], input=script, capture_output=True, text=True)
                assert done.returncode == 0, f"{name}, {job}:\n{done.stdout}"
