"""Every command reads the strata.yaml of the folder it is run in, unless it is told another."""

import pytest


@pytest.mark.parametrize("command", [("models",), ("status",), ("apply",), ("up",)])
def test_the_file_is_strata_yaml_in_this_folder(refused, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    assert refused(*command) == "strata.yaml: no such file; name one with --config"


@pytest.mark.parametrize("option", ["-c", "--config"])
def test_another_file_is_named_by_an_option(strata, config, monkeypatch, option):
    (config.parent / "models").mkdir()
    monkeypatch.chdir("/")
    code, printed, _ = strata("models", option, config)
    assert code == 0
    assert str(config.parent / "models") in printed
