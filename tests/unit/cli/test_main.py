"""The command as a whole: help, exit codes, and errors that are one line."""

import subprocess
import sys

import pytest

from serve import __version__
from serve.cli.main import app
from serve.errors import ConfigError

_COMMANDS = ["up", "apply", "status", "doctor", "train", "publish", "models", "engines"]
_COMMANDS += ["predict", "compare", "tune", "schema"]


def test_help_lists_every_command_without_loading_tensorflow_ray_or_kubernetes():
    code = (
        "import sys; sys.argv = ['strata', '--help']\n"
        "from serve.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'tensorflow', 'keras', 'ray', 'kubernetes'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in _COMMANDS:
        assert f"\n  {command} " in done.stdout
    assert sorted(_COMMANDS) == sorted(each.callback.__name__ for each in app.registered_commands)


@pytest.mark.parametrize("command", _COMMANDS)
def test_the_help_of_every_command_has_an_example(strata, command):
    code, printed, _ = strata(command, "-h")
    assert code == 0
    _, examples = printed.split("\n  Example")
    assert f"strata {command}" in examples


def test_a_missing_config_says_how_to_name_one():
    done = subprocess.run(
        [sys.executable, "-m", "serve", "models", "-c", "/nowhere/strata.yaml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    said = "strata: /nowhere/strata.yaml: no such file; name one with --config\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_wrong_usage_is_exit_code_2(strata):
    assert strata("publish")[0] == 2
    assert strata("nothing")[0] == 2


def test_the_version_is_the_package_s(strata):
    assert strata("--version") == (0, f"strata {__version__}\n", "")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("the key is wrong"), 1, "strata: the key is wrong\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_a_command_raises_becomes_an_exit_code(strata, config, monkeypatch, error, code, said):
    def read(path):
        raise error

    monkeypatch.setattr("serve.cli.models.load", read)
    assert strata("models", "-c", config) == (code, "", said)


def test_a_fault_of_ours_is_not_taken_for_an_error_of_the_user_s(strata, config, monkeypatch):
    monkeypatch.setattr("serve.cli.models.load", lambda path: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        strata("models", "-c", config)
