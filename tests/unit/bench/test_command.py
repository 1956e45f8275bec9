import pytest
from bench.command import run

from serve.errors import ServeError


def _told(text: str) -> None:
    raise ServeError(f"not {text}")


def test_an_error_for_people_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench", "here"])
    with pytest.raises(SystemExit) as ended:
        run(_told)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "scripts/bench/run: not here\n"


def test_a_measurement_that_succeeds_ends_well(monkeypatch):
    monkeypatch.setattr("sys.argv", ["bench"])
    with pytest.raises(SystemExit) as ended:
        run(lambda: None)
    assert not ended.value.code
