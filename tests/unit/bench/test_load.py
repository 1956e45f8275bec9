import pytest
from bench.load import Body, Measured, measure

from serve.errors import ServeError

_URL = "http://127.0.0.1:18000/v2/models/digits/infer"


def test_a_report_is_read_in_requests_a_second_and_milliseconds(wrk):
    assert measure(_URL, [Body(b"{}")], 4, 2) == Measured(91.78, 43.96, 48.03, 184)


@pytest.mark.parametrize(
    ("median", "slowest", "milliseconds"),
    [("534.00us", "1.20ms", (0.534, 1.2)), ("880.12ms", "2.60s", (880.12, 2600.0))],
)
def test_latencies_are_milliseconds_whatever_unit_wrk_chose(wrk, median, slowest, milliseconds):
    wrk.report = wrk.report.replace("43.96ms", median).replace("48.03ms", slowest)
    measured = measure(_URL, [Body(b"{}")], 4, 2)
    assert (measured.median_ms, measured.p99_ms) == pytest.approx(milliseconds)


@pytest.mark.parametrize(
    "line",
    [
        "  Non-2xx or 3xx responses: 3",
        "  Socket errors: connect 0, read 0, write 0, timeout 1",
    ],
)
def test_a_measurement_with_failed_requests_is_none(wrk, line):
    wrk.report = wrk.report.replace("Requests/sec", f"{line}\nRequests/sec")
    with pytest.raises(ServeError, match=line.strip()):
        measure(_URL, [Body(b"{}")], 4, 2)


def test_a_measurement_without_an_answer_is_none(wrk):
    wrk.report = wrk.report.replace("184 requests in", "0 requests in")
    with pytest.raises(ServeError, match="no request was answered"):
        measure(_URL, [Body(b"{}")], 4, 2)


def test_a_report_that_is_not_understood_is_shown(wrk):
    wrk.report = "no such option"
    with pytest.raises(ServeError, match="no such option"):
        measure(_URL, [Body(b"{}")], 4, 2)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "http://10.0.0.1:8000/",
        "http://127.0.0.1.example.com:80/",
        "http://127.0.0.1:x@example.com/",
        "http://127.0.0.1:80@example.com:80/",
        "http://127.0.0.1:8000@127.0.0.1:8000/",
        "http://127.0.0.1:port/",
        "http://127.0.0.1/",
        "http://[::1/",
        "https://127.0.0.1:8000/",
    ],
)
def test_load_goes_to_this_machine_only(wrk, url):
    with pytest.raises(ServeError, match="this machine only"):
        measure(url, [Body(b"{}")], 4, 2)
    assert not wrk.was_run


def test_a_missing_wrk_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServeError, match="wrk is not installed"):
        measure(_URL, [Body(b"{}")], 4, 2)


def test_wrk_is_given_every_body_and_the_length_of_their_json(wrk):
    measure(_URL, [Body(b"one", 2), Body(b"two", 2)], 16, 2)
    assert wrk.bodies == ["one", "two"]
    assert wrk.json_length == "2"
    assert {"-c16", "-d2s", "--latency", _URL} <= set(wrk.arguments)


def test_bodies_that_are_all_json_have_no_length_of_it(wrk):
    measure(_URL, [Body(b"{}")], 1, 1)
    assert wrk.json_length == ""


def test_bodies_are_sent_as_what_they_are(wrk):
    measure(_URL, [Body(b"{}", content_type="application/json")], 1, 1)
    assert wrk.content_type == "application/json"
    measure(_URL, [Body(b"raw")], 1, 1)
    assert wrk.content_type == "application/octet-stream"


@pytest.mark.parametrize("seconds", [0.5, 1.5, 0, -1, float("inf")])
def test_what_wrk_cannot_count_is_refused_before_it_is_asked(wrk, seconds):
    with pytest.raises(ServeError, match="whole seconds"):
        measure(_URL, [Body(b"{}")], 4, seconds)
    assert not wrk.was_run


def test_long_measurements_are_written_out(wrk):
    measure(_URL, [Body(b"{}")], 1, 1_000_000)
    assert "-d1000000s" in wrk.arguments


def test_a_server_that_is_not_there_is_told_in_the_words_of_wrk(wrk):
    wrk.fails_with = "unable to connect to 127.0.0.1:18000 Connection refused"
    with pytest.raises(ServeError, match=r"could not measure http://127.*Connection refused"):
        measure(_URL, [Body(b"{}")], 4, 2)


def test_an_end_without_a_word_has_its_code(wrk):
    wrk.fails_with = ""
    with pytest.raises(ServeError, match="it ended with 1"):
        measure(_URL, [Body(b"{}")], 4, 2)


def test_many_paths_are_asked_in_turn(wrk):
    measure(_URL, [Body(b"{}")], 4, 2, ["/v2/models/a/infer", "/v2/models/b/infer"])
    assert wrk.paths == "/v2/models/a/infer:/v2/models/b/infer"
    measure(_URL, [Body(b"{}")], 4, 2)
    assert wrk.paths == ""
