"""A verdict is read as it was written, or said to be broken."""

from dataclasses import replace

import pytest

from serve.errors import RepositoryError
from serve.selection.verdict import parse_verdict, read_verdict
from tests.unit.selection.fakes import write_engines


@pytest.fixture
def verdict(tmp_path):
    return write_engines(tmp_path / "engines")


def test_a_verdict_is_read_as_it_was_written(tmp_path, verdict):
    assert read_verdict(tmp_path / "engines") == verdict
    assert verdict.of("openvino").measured.rows_per_s == {1: 200.0, 4: 600.0}
    assert replace(verdict, candidates=()).of("openvino") is None


def test_a_verdict_of_another_form_or_none_at_all_counts_for_nothing(tmp_path, verdict):
    with pytest.raises(RepositoryError, match="of form 2, and this release of Strata writes 1"):
        parse_verdict(replace(verdict, form=2).to_json())
    with pytest.raises(RepositoryError, match="cannot be read: No such file"):
        read_verdict(tmp_path)


@pytest.mark.parametrize("cut", [0, 1, 100, -10])
def test_a_verdict_that_is_cut_off_is_broken(verdict, cut):
    with pytest.raises(RepositoryError, match=r"verdict\.json is broken"):
        parse_verdict(verdict.to_json()[:cut])


def test_a_library_that_this_release_does_not_know_is_broken(verdict):
    data = verdict.to_json().replace(b'"chosen": "openvino"', b'"chosen": "jax"')
    with pytest.raises(RepositoryError, match="broken: chosen: input should be 'tensorflow'"):
        parse_verdict(data)
