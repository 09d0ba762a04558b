"What a user loses when a wrong value becomes part of a run, or when one run is taken for another."
import json

import pytest

from image_classifier.config import ALLOWED, build, check_config, Config, config_hash, describe_keys, differences, keys, to_dict
from image_classifier.core import ConfigError


def test_setting_that_nothing_reads_is_refused_where_it_is_written():
    config = Config()
    for section in (config, config.data, config.model, config.augment, config.hyperparameters):
        with pytest.raises(AttributeError, match="no attribute 'lr'"):
            section.lr = 0.1

def test_automatic_is_only_what_a_key_knows_as_such():
    for key in ("hyperparameters.optimizer", "data.resize", "data.name"):
        with pytest.raises(ConfigError, match="must be one of .* got 'auto'"):
            check_config(build({key: "auto"}))

def test_refusal_that_no_check_knows_cannot_be_allowed():
    with pytest.raises(ConfigError, match="allow must be a list of .*, got 'everything'"):
        check_config(build({"allow": ["corrupt", "everything"]}))

def test_config_made_by_hand_is_checked():
    assert type(check_config(build({"hyperparameters.learning_rate": 1})).hyperparameters.learning_rate) is float
    for key, value in [("seed", "x"), ("seed", True), ("data.valid_fraction", float("nan")), ("data.root", "a\0b"), ("data.root", 3), ("allow", [3]), ("data.formats", None), ("model.name", ""), ("device", None),
                       ("data.size", 1.5), ("data.file_column", None), ("seed", object()), ("hyperparameters.learning_rate", 10**400), ("hyperparameters.dropout", 1j)]:
        with pytest.raises(ConfigError, match=key):
            check_config(build({key: value}))
    config = Config()
    config.data = None
    with pytest.raises(ConfigError, match="data"):
        check_config(config)
    with pytest.raises(ConfigError):
        check_config({"seed": 1})

def test_moved_data_is_still_the_same_run():
    there, here = build({"data.name": "folder", "data.root": "/a"}), build({"data.name": "folder", "data.root": "/b", "data.cache_dir": "/c", "resume": "never"})
    assert config_hash(there) == config_hash(here) and differences(there, here) == []

def test_every_key_is_explained():
    rows = describe_keys()
    assert [row[0] for row in rows] == keys() and all(kind and help and len(help) < 120 for _, kind, _, help in rows)

def test_dict_is_plain():
    assert json.loads(json.dumps(to_dict(Config()))) == to_dict(Config())

def test_help_says_what_each_word_of_allow_and_resume_does():
    help = {key: text for key, _, _, text in describe_keys()}
    assert all(f"{word}: " in help["allow"] for word in ALLOWED)
    assert "go on with an unfinished one" in help["resume"]
    assert "onecycle" in help["hyperparameters.warmup_epochs"] and all(word in help["hyperparameters.min_lr"] for word in ("step", "cosine", "plateau", "onecycle"))

def test_fractions_that_leave_something_pass():
    assert check_config(build({"data.valid_fraction": 0.5, "data.test_fraction": 0.49})).data.valid_fraction == 0.5
    with pytest.raises(ConfigError, match="add up to 1, must be < 1"):
        check_config(build({"data.valid_fraction": 0.5, "data.test_fraction": 0.5}))
