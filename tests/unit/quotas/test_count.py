from serve.quotas.count import NEVER, Count, refusal, told
from serve.quotas.limits import COMPUTE, ROWS, Limit

ROWS_OF_WEB = Limit(ROWS, "web", None, 200)
ROWS_OF_DIGITS = Limit(ROWS, "web", "digits", 50)
SECONDS = Limit(COMPUTE, "web", None, 1.5)


def test_what_is_left_is_told_of_each_limit():
    counts = [Count(ROWS_OF_WEB, 12.9, 1.0), Count(SECONDS, 0.9, 59.2)]
    assert dict(told(counts)) == {
        b"ratelimit-policy": b'"rows";q=200;w=1, "compute-seconds";q=1;w=86400',
        b"ratelimit": b'"rows";r=12;t=1, "compute-seconds";r=0;t=60',
    }


def test_who_is_refused_is_told_to_come_back_when_all_limits_let_it_through():
    counts = [Count(ROWS_OF_WEB, -3.0, 1.0, 0.2), Count(ROWS_OF_DIGITS, 1.0, 1.0, 1.2)]
    headers = dict(told(counts))
    assert headers[b"retry-after"] == b"2"
    assert headers[b"ratelimit"] == b'"rows";r=0;t=1, "model-rows";r=1;t=1'


def test_who_is_never_let_through_is_not_told_to_come_back():
    counts = [Count(ROWS_OF_WEB, 200.0, 1.0, NEVER), Count(ROWS_OF_DIGITS, 0.0, 1.0, 0.5)]
    assert b"retry-after" not in dict(told(counts))


def test_a_refusal_says_who_may_what_and_when():
    assert refusal(Count(ROWS_OF_DIGITS, 3.7, 1.0, 0.2), 9) == (
        "the tenant web may send 50 rows a second of the model digits; 3 are left, come back in 1 s"
    )
    assert refusal(Count(SECONDS, -0.1, 7200.0, 7200.0), 9) == (
        "the tenant web may use 1.5 s of compute a day; 0 are left, come back in 7200 s"
    )
    assert refusal(Count(ROWS_OF_WEB, 200, 1.0, NEVER), 201) == (
        "the tenant web may send 200 rows a second; a request of 201 rows is never let through, "
        "send fewer at once"
    )
    assert refusal(Count(Limit(ROWS, "web", None, 0), 0, 1.0, NEVER), 1) == (
        "the tenant web may send 0 rows a second"
    )
