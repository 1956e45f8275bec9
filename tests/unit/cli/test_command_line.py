import os

import pytest
import typer

from serve.cli.command_line import run
from serve.errors import ServeError


def _app(action):
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(action)
    return app


def test_an_error_for_people_is_one_line_with_the_name_of_the_command(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["strata", "here"])

    def told(text: str) -> None:
        raise ServeError(f"not {text}")

    with pytest.raises(SystemExit) as ended:
        run(_app(told), "strata")
    assert ended.value.code == 1
    assert capsys.readouterr().err == "strata: not here\n"


def test_no_proxy_is_asked_for_this_machine(monkeypatch):
    monkeypatch.setattr("sys.argv", ["strata"])
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    seen = []
    with pytest.raises(SystemExit) as ended:
        run(_app(lambda: seen.append(os.environ["NO_PROXY"])), "strata")
    assert not ended.value.code
    assert "127.0.0.1" in seen[0]
