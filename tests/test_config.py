"What a user loses if the configuration accepts something wrong or refuses something right."
import os
import random
import subprocess
import sys
import threading
import warnings
from typing import Optional

import pytest

from image_classifier.config import (
    build, check_config, compose, composing, Config, differences, flat, from_parameters, keys, list_presets, load_config, ModelConfig, NON_RESULT_KEYS,
    project_root, settings, to_yaml)
from image_classifier.core import ConfigError, DataError, ImageClassifierError

SECRET = "canary-7f3a"


def refused(*overrides, file=None):
    "Return the error line that a user reads; fail if the overrides are accepted."
    with pytest.raises(ImageClassifierError) as caught:
        compose(list(overrides), file=file)
    line = str(caught.value)
    assert caught.value.exit_code == 2, line
    assert "\n" not in line and len(line) < 2000
    return line


def refused_file(tmp_path, text, *overrides):
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return refused(*overrides, file=path)


# Bad inputs, one test each. Errors that need a model, a data set or a device (a batch larger than the training set, an
# unknown network, a missing CUDA device, an unwritable folder, another run's folder) are raised and tested in the packages
# that own these.

def test_mistyped_key_suggests_the_right_one():
    assert refused("train.lrr=1") == "unknown key train.lrr. did you mean lr?"
    assert "did you mean hyperparameters.learning_rate?" in refused("hyperparameters.learning_rte=1")
    assert "did you mean hyperparameters.dropout?" in refused("dropout=0.1")

def test_wrong_type_is_named_with_what_was_given():
    assert refused("epochs=ten") == "epochs needs auto or an integer, got 'ten' (hyperparameters.num_epochs)"
    assert "data.download needs true or false, got 'yes'" in refused("data.download=yes")
    assert "seed needs an integer, got null" in refused("seed=null")
    assert "hyperparameters.num_epochs needs auto or an integer, got '1.5'" in refused("hyperparameters.num_epochs=1.5")

def test_negative_epochs_are_refused():
    assert "epochs must be auto or an integer >= 1, got -1" in refused("epochs=-1")

@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "0", "-1"])
def test_learning_rate_is_finite_and_positive(value):
    assert "lr must be a finite number > 0" in refused(f"lr={value}")

def test_empty_batch_is_refused():
    assert "batch_size must be >= 1, got 0" in refused("batch_size=0")

def test_batch_larger_than_the_data_is_left_to_the_data_package():
    assert compose(["batch_size=1000000000"]).hyperparameters.batch_size == 1_000_000_000

def test_unknown_network_is_left_to_the_models_package():
    assert compose(["model=resnet999"]).model == ModelConfig("auto", "resnet999")

def test_registered_reader_and_optimizer_can_be_named():
    config = compose(["data.name=my_reader", "hyperparameters.optimizer=my_optimizer", "epochs=2"])
    assert (config.data.name, config.hyperparameters.optimizer, config.data.root) == ("my_reader", "my_optimizer", None)
    assert config.augment == compose(["augment=photos"]).augment
    assert compose(["data.name=my_reader", "data.root=/x", "augment=none"]).augment == Config().augment

@pytest.mark.parametrize("key, known", [("data.name", "digits, mnist, fashion_mnist, cifar10, cifar100, folder, csv"),
                                        ("hyperparameters.optimizer", "adam, adamw, sgd, muon")])
def test_name_of_a_reader_or_optimizer_must_be_a_plain_name(key, known):
    assert refused(f"{key}=/etc") == f"{key} must be one of {known} or a registered name, got '/etc'"
    assert "got 'a b'" in refused(f"{key}=a b") and "got 'x;y'" in refused(f"{key}=x;y") and f"{key} needs text" in refused(f"{key}=null")

def test_mistyped_data_set_suggests_the_nearest():
    assert refused("data=cifr10") == "unknown data 'cifr10'. name a folder that is there, or did you mean cifar10 or cifar100?"
    assert "choose one of cifar10, cifar100, csv, digits, fashion_mnist, folder, mnist" in refused("data=qqqq")

def test_section_without_presets_names_one_of_its_keys():
    assert refused("checkpoint=often") == "checkpoint has no presets. set one of its keys, e.g. checkpoint.every_steps=VALUE"

def test_checkpoints_are_saved_and_kept_in_sensible_numbers():
    assert "checkpoint.keep must be >= 1, got 0" in refused("checkpoint.keep=0")
    assert "checkpoint.every_steps needs an integer, got '0.5'" in refused("checkpoint.every_steps=0.5")
    assert "checkpoint.every_minutes must be a finite number >= 0, got -1" in refused("checkpoint.every_minutes=-1")
    assert refused("every_step=3") == "unknown key every_step. did you mean checkpoint.every_steps?"

def test_override_never_runs_code(tmp_path, monkeypatch):
    (tmp_path / "canary_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for text in ["model._target_=canary_module.run", "_target_=canary_module.run", "data._target_.x=canary_module", "+model._target_=canary_module.run",
                 "model={_target_:canary_module.run}", "model.name={_target_: canary_module.run}"]:
        refused(text)
        assert "canary_module" not in sys.modules, text
    assert refused("model._target_=os.system").startswith("_target_ is not accepted")
    assert "choose model=<name>" in refused("model._target_=os.system")
    assert not (tmp_path / "ran").exists()

def test_added_key_is_refused_with_the_keys_that_exist():
    assert refused("+x.y=1") == ("unknown key x.y. top-level keys are data, model, augment, hyperparameters, checkpoint, finetune, seed, device, compile, "
                                 "threads, deterministic, check_near_duplicates, calibrate, target_accuracy, max_minutes, early_stopping_patience, resume, allow")

@pytest.mark.parametrize("text", ["a=${oc.env:AWS_SECRET}", "data.root=${oc.env:AWS_SECRET}", "data=${oc.env:AWS_SECRET,x}", "seed=${oc.decode:${oc.env:AWS_SECRET}}",
                                  "data.root=x${ oc.env : AWS_SECRET }", "allow=[${oc.env:AWS_SECRET}]", "model=${env:AWS_SECRET}"])
def test_environment_variable_never_leaks_into_an_error(text, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET", SECRET)
    line = refused(text)
    assert "environment values are not read" in line and SECRET not in line
    line = refused_file(tmp_path, "data:\n  root: ${oc.env:AWS_SECRET}\n")
    assert "environment values are not read" in line and SECRET not in line and "config.yaml:2" in line

def test_circular_reference_is_shown():
    assert "circular reference a -> a" in refused("a=${a}")
    assert "circular reference a -> b -> a" in refused("a=${b}", "b=${a}")
    assert "references to other keys are not accepted" in refused("seed=${data.split_seed}")

@pytest.mark.parametrize("overrides", [["data=folder"], ["data=csv"], ["data=folder", "data.root=???"], ["data.name=folder"], ["data=folder", "data.root=null"]])
def test_missing_root_is_required(overrides):
    assert refused(*overrides) == "data.root is required, e.g. data.root=./cifar10"

def test_missing_network_is_required():
    assert refused("model=timm") == "model.name is required, e.g. model.name=resnet18"

def test_malformed_yaml_shows_line_and_column(tmp_path):
    line = refused_file(tmp_path, "seed: 1\ndata: {root: [1, 2\nmodel: x\n")
    assert "config.yaml:" in line and "malformed YAML" in line and "model: x" in line
    line = refused_file(tmp_path, "seed: 1\ndata:\n\troot: x\n")
    assert "config.yaml:3:1" in line and "root: x" in line

@pytest.mark.parametrize("text", ["data: !!python/object:os.system {}", "seed: !!python/object/apply:os.system ['true']", "seed: !!int 3", "a: !custom 1",
                                  "!!python/name:os.system x: 1"])
def test_yaml_tags_are_refused(tmp_path, text):
    assert "YAML tags are not allowed" in refused_file(tmp_path, text) and ":1)" in refused_file(tmp_path, text)

def test_alias_bomb_is_refused_before_it_grows(tmp_path):
    bomb = "a0: &a0 [lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30))
    assert "config larger than 1 MB when expanded" in refused_file(tmp_path, bomb)
    assert "config larger than 1 MB" in refused_file(tmp_path, "#" * 1_000_001)
    assert "nested too deeply" in refused_file(tmp_path, "seed: " + "[" * 100_000)
    assert "aliases are not accepted" in refused_file(tmp_path, "data: &a {root: *a}")

def test_same_key_twice_is_refused_with_both_places(tmp_path):
    assert "seed is given twice, in lines 1 and 3" in refused_file(tmp_path, "seed: 1\nallow: []\nseed: 2\n")
    line = refused_file(tmp_path, "epochs: 1\nhyperparameters:\n  num_epochs: 2\n")
    assert "config.yaml:1 and " in line and "config.yaml:3" in line
    assert refused("lr=1", "learning_rate=2") == "hyperparameters.learning_rate is given twice: lr=1 and learning_rate=2. give it once"
    assert "data is given twice" in refused("data=mnist", "data=digits")

def test_splits_leave_something_to_train_on():
    assert refused("data.valid_fraction=0.7", "data.test_fraction=0.7") == "data.valid_fraction and data.test_fraction add up to 1.4, must be < 1. leave images to train on"

def test_some_format_must_be_read():
    assert "data.formats is empty" in refused("data.formats=[]")

def test_sweeps_are_refused():
    assert refused("lr=1e-3,1e-2") == ("lr needs a number, got '1e-3,1e-2' (hyperparameters.learning_rate). one run has one value; "
                                       "sweeps are not accepted")

def test_warmup_ends_before_the_training():
    assert "hyperparameters.warmup_epochs must be <= num_epochs (3), got 4" in refused("epochs=3", "hyperparameters.warmup_epochs=4")

def test_warmup_that_would_do_nothing_is_refused():
    given = ["epochs=3", "hyperparameters.warmup_epochs=1", "hyperparameters.scheduler_type=onecycle"]
    assert "hyperparameters.warmup_epochs has no effect with scheduler_type=onecycle" in refused(*given)
    assert compose([*given[:2], "hyperparameters.scheduler_type=cosine"]).hyperparameters.warmup_epochs == 1

def test_path_too_long_for_the_system_is_reported_as_missing():
    with pytest.raises(DataError, match="the nearest existing parent is /"):
        compose(["data=/" + "x" * 300 + "/y"])

def test_device_must_be_one():
    assert refused("device=gpu") == "device must be auto, cpu, mps, cuda or cuda:N, got 'gpu'"
    assert compose(["device=cuda:1"]).device == "cuda:1"


# Hostile input

HOSTILE = ["_target_=os.system", "model._target_=os.system", "hyperparameters._partial_=true", "data._args_=[1]", "hydra.run.dir=/etc", "hydra/launcher=joblib",
           "hydra.job.chdir=true", "+hydra.searchpath=[file:///etc]", "hydra.verbose=true", "${oc.env:AWS_SECRET}=1", "seed=${oc.env:AWS_SECRET}", "data.root=${oc.env:AWS_SECRET}",
           "resume=${oc.env:AWS_SECRET}", "device=${oc.env:AWS_SECRET}", "seed=${oc.create:{}}", "seed=${seed}", "a=${a}", "data=???", "model=???", "model.name=???", "seed=???", "lr=1e400",
           "lr=-1e400", "lr=nan", "lr=1e-3,1e-2", "epochs=range(1,5)", "model=resnet,simple_cnn", "hyperparameters=fast,default", "hyperparameters=[fast]", "seed=9223372036854775808",
           "seed=" + "9" * 10_000, "epochs=" + "9" * 5_000, "data.root=" + "x" * 70_000, "model=" + "x" * 5_000_000, "model=../../etc/passwd", "model=os;id", "=1", "", "seed", "seed\n=1",
           "seed=1\n", "data.root=", "data.root=a\0b", "data=a\0b", "~seed", "~data", "++seed=1", "seed@data=1", "data@model=mnist", "data=\x1b[31m", "data.__class__=1", "__class__=x",
           "data.__init__.__globals__=1", "model.name=a b", "allow=[everything]", "data.formats=[eps]", "data.size=0", "data.channels=2", "data={name: x}", "seed={}", "seed=[1]", "seed=true",
           "'seed'=1", "\udcff=1", "allow=[links", "allow=a]", "allow=[[links]]", "allow=", "device=cuda:x", "data.name=/etc"]

@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_override_gives_one_harmless_line(text, monkeypatch):
    monkeypatch.setenv("AWS_SECRET", SECRET)
    before = set(sys.modules)
    line = refused(text)
    assert SECRET not in line and line.isprintable()
    assert not any(name.startswith(("joblib", "hydra_plugins")) for name in set(sys.modules) - before)

HOSTILE_FILES = ["[]", "seed: {}", "3", "text", "- a", "seed: 1\n---\nseed: 2", "? [a, b]\n: 1", "? {a: b}\n: 1", "null: 1", "seed: {a: 1}", "seed: [1]", "data: [1]", "data: mnist", "data: {name: {a: b}}",
                 "<<: {seed: 1}", "seed: \x01", "seed: '", "%YAML 9.9\n---\nseed: 1", "a: *b", "allow: [[links]]", "allow: [null]", "allow: {links: 1}", b"\xff\xfe\x00", b"seed: \xff",
                 "_target_: os.system", "model:\n  _target_: os.system", "data.root: ''", "hyperparameters: {lr: 1}", "seed: \"1", "a: b: c", "@", "`", "*", "&", "!", "seed: |", "{", "}", ",", "\t- x"]

@pytest.mark.parametrize("text", HOSTILE_FILES, ids=range(len(HOSTILE_FILES)))
def test_hostile_file_gives_one_harmless_line(text, tmp_path):
    assert "config.yaml" in refused_file(tmp_path, text)

def test_random_bytes_as_a_file_never_crash(tmp_path):
    draw, stored = random.Random(0), to_yaml(Config()).encode()
    for _ in range(300):
        data = bytearray(stored)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.choice(b"\x00\n\t:{}[]&*!|>'\"%@`#-?,~ 09az\xff")
        (tmp_path / "config.yaml").write_bytes(data)
        try:
            compose(file=tmp_path / "config.yaml")
        except ConfigError:
            pass

def test_unreadable_file_gives_the_reason(tmp_path):
    assert "no such file or directory" in refused(file=tmp_path / "none.yaml")
    assert "is a directory" in refused(file=tmp_path)
    assert "cannot read the configuration" in refused(file="a\0b")


# What must be accepted

ODD = ["~", "é", "it's", "(old)", "a,b", "#1", "a=b", " two  words ", "-rf", "null ", "1e-3", "true", "[a,b]", "{a: b}", "C:\\x", "a: b", "'q'", '"q"', "%", "$HOME", "$(id)", "`id`", "!!int 3",
       "&a", "*a", "|", ">", "- x", "? y", "a\nb\n", "\ttab", "\r\n", "\x85", "\u2028", "\u202e", "\ufeff", "😀", "\x1b[31m", "\x7f", "\udcff", "2026-01-01", "0x1f", "0o7", "1_000", ".inf", "yes", "NULL?",
       "a\\nb", "\\uD800", "x" * 3000, "a" + " b" * 200]

@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_text_is_taken_literally_and_stored_exactly(text, tmp_path):
    config = compose(["data=folder", f"data.root={text}", f"data.label_column={text}"])
    assert config.data.root == config.data.label_column == text
    (tmp_path / "config.yaml").write_bytes(to_yaml(config).encode())
    assert load_config(tmp_path / "config.yaml") == config

def test_random_text_is_stored_exactly(tmp_path):
    draw = random.Random(1)
    for _ in range(150):
        text = "".join(draw.choice("ab01 .:-#'\"\\\n\t{}[],&*!|>%@`~=é\u2028\x85😀\udc80") for _ in range(draw.randint(1, 12)))
        config = build({"data.name": "csv", "data.root": text, "data.file_column": text, "data.valid_fraction": draw.random() / 3, "seed": draw.getrandbits(63)})
        (tmp_path / "config.yaml").write_bytes(to_yaml(config).encode())
        assert load_config(tmp_path / "config.yaml") == config, repr(text)

OTHER = {int: "7", float: "0.5", bool: "false", str: "other", Optional[str]: "other", int | str: "3"}
CHANGED = {"data.name": "mnist", "data.resize": "pad", "data.formats": "[png]", "model.library": "timm", "augment.horizontal_flip": "true", "hyperparameters.optimizer": "sgd",
           "hyperparameters.scheduler_type": "cosine", "hyperparameters.dropout": "0.4", "hyperparameters.precision": "bfloat16", "hyperparameters.nesterov": "true",
           "augment.tta": "flip", "finetune": "probe", "augment.extra": "[erase:0.4]", "augment.trivial": "true", "hyperparameters.class_weights": "[cat:2]", "hyperparameters.distill_weight": "0.3",
           "hyperparameters.balanced_sampling": "true", "compile": "true", "device": "cpu", "deterministic": "true", "allow": "[links,corrupt]"}

@pytest.mark.parametrize("key", keys())
def test_every_key_can_be_set_from_text_and_makes_another_run_unless_results_do_not_depend_on_it(key):
    data = ["data.name=cifar10"] if key == "data.root" else []  # digits read no folder
    before, config = compose(data), compose([*data, f"{key}={CHANGED.get(key) or OTHER[settings()[key].kind]}"])
    assert flat(config)[key] != flat(before)[key] and type(flat(config)[key]) in (int, float, bool, str, list)
    assert (key in [name for name, _, _ in differences(before, config)]) == (key not in NON_RESULT_KEYS)

def test_every_preset_composes():
    for group, names in list_presets().items():
        for name in names:
            extra = {"folder": ["data.root=x"], "csv": ["data.root=x"], "torchvision": ["model.name=x"], "timm": ["model.name=x"]}.get(name, [])
            assert isinstance(compose([f"{group}={name}", *extra]), Config)
            assert set(composing._presets(f"{group}={name}")) <= set(keys())

def test_defaults_of_the_schema_are_the_default_run():
    assert compose() == Config() == from_parameters() and differences(compose(), Config()) == []

def test_data_set_selects_its_augmentation(tmp_path):
    photos = compose(["augment=photos"]).augment
    assert [compose([f"data={name}"]).augment == photos for name in ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")] == [False, False, True, True, True]
    assert compose([f"data={tmp_path}"]).augment == compose(["augment=auto", "data=csv", "data.root=x"]).augment == photos
    assert compose(["data=mnist"]).augment == compose(["augment=digits"]).augment
    assert compose(["data=cifar10", "augment=none"]).augment == Config().augment
    assert compose(["data.name=cifar10"]).augment == photos

def test_short_forms_mean_the_long_ones(tmp_path):
    assert compose([f"data={tmp_path}"]) == compose(["data=folder", f"data.root={tmp_path}"])
    (tmp_path / "table.csv").write_text("file,label\n")
    assert compose([f"data={tmp_path / 'table.csv'}"]) == compose(["data=csv", f"data.root={tmp_path / 'table.csv'}"])
    assert compose(["model=vgg11_bn"]) == compose(["model=torchvision", "model.name=vgg11_bn"])
    assert compose(["epochs=3", "lr=0.1", "batch_size=7"]) == compose(["hyperparameters.num_epochs=3", "hyperparameters.learning_rate=0.1", "hyperparameters.batch_size=7"])

def test_missing_folder_is_an_error_of_the_data(tmp_path):
    with pytest.raises(DataError, match="no folder .*the nearest existing parent is") as caught:
        compose([f"data={tmp_path}/not/there"])
    assert caught.value.exit_code == 3 and f"parent is {tmp_path}" in str(caught.value)

def test_several_mistakes_are_reported_together():
    line = refused("epochs=ten", "lr=nan", "seeed=1", "data=mnits")
    assert line.startswith("4 problems:") and all(word in line for word in ("epochs", "lr", "did you mean seed?", "did you mean mnist?"))

def test_overrides_win_over_a_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("data:\n  name: mnist\nhyperparameters:\n  num_epochs: 3\n  learning_rate: 1e-2\n")
    config = compose(file=path)
    assert (config.data.name, config.hyperparameters.num_epochs, config.hyperparameters.learning_rate, config.augment.rotation) == ("mnist", 3, 0.01, 10.0)
    assert compose(["epochs=4"], file=path).hyperparameters.num_epochs == 4
    assert compose(["data=cifar10"], file=path).augment.horizontal_flip is True
    path.write_text(to_yaml(compose(["model=vgg11", "hyperparameters=fast", "data=cifar10", "augment=none", "lr=0.5"])))
    assert compose(["model=resnet"], file=path).model == ModelConfig("auto", "resnet")
    assert compose(["hyperparameters=default"], file=path).hyperparameters == Config().hyperparameters
    assert compose(["augment=auto"], file=path).augment.horizontal_flip is True and compose(file=path).augment.horizontal_flip is False

def test_changing_one_config_leaves_the_next_alone():
    first = compose()
    first.allow.append("links")
    first.data.formats.append("gif")
    assert compose() == Config() and composing._presets()["data.name"] == "digits"


# Notebook parameters

def wrong(**parameters):
    with pytest.raises(ConfigError) as caught:
        from_parameters(**parameters)
    return str(caught.value)

def test_parameters_of_wrong_type_are_refused():
    assert wrong(epochs="abc").startswith("epochs needs auto or an integer, got 'abc'")
    assert "epochs must be auto or an integer >= 1" in wrong(epochs=-3)
    assert "learning_rate must be a finite number > 0" in wrong(learning_rate=float("nan"))
    assert "learning_rate needs a number, got dict" in wrong(learning_rate={"a": 1})
    assert "learning_rate needs a number, got true" in wrong(learning_rate=True)
    assert "seed needs an integer, got 1.5" in wrong(seed=1.5)
    assert "data needs text, got 3" in wrong(data=3)
    assert "overrides needs text, got list" in wrong(overrides=["epochs=3"])
    assert "no folder" in wrong(data="/not/there/at/all") and "nearest existing parent is /" in wrong(data="/not/there/at/all")
    assert "is longer than 64 KB. pass a file path" in wrong(data="x" * 5_000_000)
    assert "is longer than 64 KB. pass a file path" in wrong(overrides="x" * 5_000_000)
    assert "no closing quotation" in wrong(overrides="data.root='x")
    assert "epochs must be auto or an integer >= 1" in wrong(epochs=0) and "seed must be" in wrong(seed=-1)

def test_falsy_parameters_are_not_ignored():
    assert "data is empty" in wrong(data="") and "resume is empty" in wrong(resume="")
    assert "overrides needs text" in wrong(overrides=0)

def test_parameters_rank_between_presets_and_overrides():
    config = from_parameters(data="mnist", model="vgg11", hyperparameters="fast", epochs=3, learning_rate=1, seed=7, overrides="epochs=4 model=resnet")
    assert (config.hyperparameters.num_epochs, config.hyperparameters.learning_rate, config.hyperparameters.batch_size) == (4, 1.0, 128)
    assert (config.model.name, config.seed, config.data.name) == ("resnet", 7, "mnist")
    assert from_parameters(epochs=3, overrides="hyperparameters=fast").hyperparameters.num_epochs == 3

def test_text_for_a_parameter_stays_text(tmp_path):
    hostile = '"; import os #'
    assert from_parameters(data="csv", overrides=f"""data.root=x 'data.label_column={hostile}'""").data.label_column == hostile

@pytest.mark.parametrize("text", ["", "[DEFAULT]\nlib_name = fastcore\n", "# lib_name = literate-image-classifier\n", "\0" * 200_000, None])
def test_settings_of_another_project_above_do_not_capture_runs(tmp_path, monkeypatch, text):
    (tmp_path / "settings.ini").write_text(text) if text is not None else os.mkfifo(tmp_path / "settings.ini")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert project_root() == tmp_path / "work"


def test_relative_folder_starts_from_the_project(tmp_path, monkeypatch):
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = literate-image-classifier\n")
    (tmp_path / "pics").mkdir()
    (tmp_path / "nbs").mkdir()
    monkeypatch.chdir(tmp_path / "nbs")
    assert project_root() == tmp_path
    assert from_parameters(data="pics").data.root == from_parameters(overrides="data=pics").data.root == str(tmp_path / "pics")
    assert from_parameters(data="folder", overrides="data.root=pics").data.root == str(tmp_path / "pics")
    assert from_parameters(resume="runs/a").resume == str(tmp_path / "runs/a") and from_parameters(resume="never").resume == "never"
    monkeypatch.chdir("/")
    assert str(project_root()) == "/"

def test_relative_folder_in_a_shell_starts_from_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "pics").mkdir()
    monkeypatch.chdir(tmp_path)
    assert compose(["data=pics"]) == compose(["data=folder", "data.root=pics"])


def test_a_folder_of_a_data_set_that_reads_none_is_refused_and_left_out_where_a_run_stored_it(tmp_path):
    assert refused("data=digits", "data.root=/no/photos") == "data.root has no effect for data=digits. write data=/no/photos, or leave data.root out"
    assert "data.root has no effect" in refused("data.root=photos")  # the default data set
    for name in set(list_presets()["data"]) - {"digits"}:
        assert compose([f"data={name}", "data.root=photos"]).data.root == "photos"
    with pytest.raises(ConfigError, match="data.root has no effect"):
        check_config(build({"data.root": "photos"}))
    (tmp_path / "config.yaml").write_text("data:\n  name: digits\n  root: /no/photos\n")
    with pytest.warns(UserWarning, match="data.root=/no/photos has no effect for data=digits and is left out"):
        assert compose(["epochs=3"], file=tmp_path / "config.yaml") == compose(["epochs=3"])


# Other programs and threads

def test_composing_in_threads_is_safe_and_silent(tmp_path):
    composing._presets.cache_clear()
    found, overrides = {}, [["data=mnist"], ["model=resnet"], ["hyperparameters=fast"], ["data=cifar10", "model=resnet"], []]
    def work(i):
        found[i] = compose(overrides[i % 5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=work, args=(i,)) for i in range(20)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert len(found) == 20 and all(found[i] == compose(overrides[i % 5]) for i in found)

def test_hydra_state_of_the_host_program_is_restored(tmp_path):
    from hydra import compose as hydra_compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    (tmp_path / "own.yaml").write_text("x: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        composing._presets.cache_clear()
        assert compose(["data=mnist"]).data.name == "mnist"
        assert hydra_compose("own").x == 1
    assert not GlobalHydra.instance().is_initialized()

def test_import_is_light():
    code = "import sys, image_classifier.config.schema, image_classifier.config.checking, image_classifier.config.yaml, image_classifier.config.composing; print([m for m in ('hydra', 'omegaconf', 'yaml', 'pydantic', 'numpy', 'torch', 'fastcore', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
