"""Labels are what is wanted, as far as that is loaded."""

import logging

from serve.replica.version_labels import Labels


def test_a_label_stays_where_it_is_until_its_version_is_loaded():
    labels = Labels("digits")
    labels.want({"stable": 1}, [1])
    labels.want({"stable": 2, "old": 1}, [1])
    assert labels.reached == {"stable": 1, "old": 1}
    labels.settle([1, 2])
    assert labels.reached == {"stable": 2, "old": 1}


def test_a_label_whose_version_went_is_what_is_wanted():
    labels = Labels("digits")
    labels.want({"stable": 1}, [1])
    labels.want({"stable": 3}, [1])
    labels.settle([2])
    assert labels.reached == {"stable": 3}


def test_a_label_that_is_not_wanted_any_more_is_gone():
    labels = Labels("digits")
    labels.want({"stable": 1}, [1])
    labels.want({}, [1])
    assert labels.reached == {}


def test_what_is_missing_is_said_once_for_each_version(caplog):
    labels = Labels("digits")
    labels.want({"stable": 2}, [1])
    with caplog.at_level(logging.WARNING, "ray.serve"):
        for _ in range(3):
            labels.report_missing([1])
        labels.want({"stable": 3}, [1])
        labels.report_missing([1])
    said = [record.getMessage() for record in caplog.records]
    assert ["version 2" in said[0], "version 3" in said[1], len(said)] == [True, True, 2]
