"What a user loses if a wrong value becomes part of a run, or one run is mistaken for another."
import json

import pytest

from image_classifier.config import ALLOWED, build, check_config, Config, describe_keys, differences, keys, to_dict
from image_classifier.core import ConfigError


def test_key_that_does_not_exist_cannot_be_assigned():
    config = Config()
    for section in (config, config.data, config.model, config.augment, config.hyperparameters, config.checkpoint):
        with pytest.raises(AttributeError, match="no attribute 'lr'"):
            section.lr = 0.1

def test_auto_is_refused_by_keys_that_do_not_offer_it():
    for key in ("hyperparameters.scheduler_type", "data.resize", "augment.tta"):
        with pytest.raises(ConfigError, match="must be one of .* got 'auto'"):
            check_config(build({key: "auto"}))

def test_only_existing_checks_can_be_relaxed():
    with pytest.raises(ConfigError, match="allow must be a list of .*, got 'everything'"):
        check_config(build({"allow": ["corrupt", "everything"]}))

def test_config_written_by_hand_is_checked():
    assert type(check_config(build({"hyperparameters.learning_rate": 1})).hyperparameters.learning_rate) is float
    for key, value in [("seed", "x"), ("seed", True), ("data.valid_fraction", float("nan")), ("data.root", "a\0b"), ("data.root", 3), ("allow", [3]), ("data.formats", None), ("model.name", ""), ("device", None), ("data.name", "/etc"), ("data.name", None), ("hyperparameters.optimizer", "a b"), ("checkpoint.keep", 0),
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
    assert differences(there, here) == [] == differences(there, build({"data.name": "folder", "allow": ["change"], "checkpoint.keep": 9}))

def test_every_key_has_a_rule_and_help():
    rows = describe_keys()
    assert [row[0] for row in rows] == keys() and all(kind and help and len(help) < 120 for _, kind, _, help in rows)

def test_dict_is_plain_json():
    assert json.loads(json.dumps(to_dict(Config()))) == to_dict(Config())

def test_help_explains_each_word_of_allow_and_resume():
    help = {key: text for key, _, _, text in describe_keys()}
    assert all(f"{word}: " in help["allow"] for word in ALLOWED)
    assert "continue an unfinished run" in help["resume"]
    assert "onecycle" in help["hyperparameters.warmup_epochs"] and all(word in help["hyperparameters.min_lr"] for word in ("step", "cosine", "plateau", "onecycle"))

def test_fractions_that_leave_training_images_are_accepted():
    assert check_config(build({"data.valid_fraction": 0.5, "data.test_fraction": 0.49})).data.valid_fraction == 0.5
    with pytest.raises(ConfigError, match="add up to 1, must be < 1"):
        check_config(build({"data.valid_fraction": 0.5, "data.test_fraction": 0.5}))
