from hypothesis import given
from hypothesis import strategies as st

from serve.edge.haproxy.map_files import entries_in, write_entries

_WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)


@given(entries=st.dictionaries(_WORDS, _WORDS))
def test_what_is_written_is_read(entries, tmp_path_factory):
    file = tmp_path_factory.mktemp("maps") / "map"
    write_entries(file, entries)
    assert entries_in(file) == entries


def test_a_file_that_is_not_there_has_nothing(tmp_path):
    assert entries_in(tmp_path / "map") == {}
