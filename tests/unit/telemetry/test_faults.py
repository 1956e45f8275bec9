import logging

from serve.telemetry.faults import Faults


def _raised(message):
    try:
        raise ValueError(message)
    except ValueError as err:
        return err


def _raised_elsewhere():
    try:
        raise ValueError("seven")
    except ValueError as err:
        return err


def test_each_kind_is_logged_once_with_its_traceback_and_all_are_counted(caplog):
    faults = Faults("sample", "sampling 'digits'")
    with caplog.at_level(logging.ERROR, "ray.serve"):
        for err in (_raised("row 7"), _raised("row 8"), _raised_elsewhere(), _raised("row 9")):
            faults.note(err)
        faults.count()
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "sampling 'digits': ValueError: row 7; said once",
        "sampling 'digits': ValueError: seven; said once",
    ]
    assert all(record.exc_info for record in caplog.records)
    assert (faults.take(), faults.take()) == (5, 0)


def test_what_is_remembered_is_bounded():
    faults = Faults("sample", "here")
    for number in range(1_000):
        faults.note(ValueError(str(number)))  # without a traceback: each is its own kind
    assert len(faults._said) <= 100
