"""What reaches replicas through HAProxy with Strata's lines, and what is answered without them."""

import json
import uuid
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import unquote

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.edge.routes import parse_path
from tests.ports import free_port
from tests.unit.edge.haproxy import http_2
from tests.unit.edge.haproxy.echo import Dying, Echo
from tests.unit.edge.haproxy.rays import application
from tests.unit.edge.haproxy.running import Edge, response


@pytest.fixture(scope="module")
def replicas():
    return {name: Echo(name) for name in ("gateway", "m", "v1", "proxy", "pool-a", "pool-b")}


@pytest.fixture(scope="module")
def backends(replicas):
    proxy = replicas["proxy"].server_port
    ports = {name: replica.server_port for name, replica in replicas.items()}
    return [
        *(
            application(name, ports[name], fallback=proxy)
            for name in ("gateway", "m", "v1", "pool-a", "pool-b")
        ),
        application("pool-down", free_port(), fallback=proxy),
        application("asleep", fallback=proxy),
        application("down", free_port(), fallback=proxy),
    ]


@pytest.fixture(scope="module")
def edge(backends, tmp_path_factory, eventually):
    with Edge(tmp_path_factory.mktemp("edge"), *backends, idle_s=600) as running:
        eventually(running.is_up)
        # Servers count as up until they were looked at.
        eventually(lambda: reached(running.ask("/v2/models/down"))[0] == "gateway")
        yield running


def test_a_node_that_is_drained_lets_each_connection_go_with_its_next_answer(
    edge, backends, tmp_path, eventually
):
    with Edge(tmp_path, *backends, pass_health_checks=False) as drained:
        eventually(drained.is_up)
        with drained.connect() as connection, edge.connect() as kept:
            for each in (connection, kept):
                each.sendall(b"GET /v2/models/m HTTP/1.1\r\nHost: x\r\n\r\n")
            assert reached(answer := response(connection)) == ("m", "/v2/models/m")
            assert answer.headers["connection"] == "close"
            assert connection.recv(1) == b""
            assert "connection" not in response(kept).headers
        assert http_2.GOAWAY in kinds_by_http_2(drained)
        assert http_2.GOAWAY not in kinds_by_http_2(edge)


def kinds_by_http_2(edge):
    """Return the kinds of frames that come with the answer to a request."""
    kinds = set()
    with edge.connect() as connection:
        connection.sendall(http_2.request("/v2/models/m", {}) + http_2.ping())
        for kind, body in http_2.frames(connection):
            kinds.add(kind)
            assert kind != http_2.HEADERS or http_2.status(body) == b"200"
            if {http_2.HEADERS, http_2.PING} <= kinds:
                break
    return kinds


def reached(answer):
    """Return the replica that a request came to, and the path that it had there."""
    assert answer.status == 200, answer.body
    told = json.loads(answer.body)
    return told["name"], told["path"]


def error(answer):
    """Return the message of an error in the words of the protocols."""
    assert answer.headers["content-type"] == "application/json", answer.body
    assert answer.headers["x-request-id"]
    (said,) = json.loads(answer.body).values()
    return said


@pytest.mark.parametrize(
    ("path", "replica", "seen"),
    [
        ("/v1/models/m", "m", "/v2/models/m/v1"),
        ("/v1/models/m:predict", "m", "/v2/models/m/v1:predict"),
        ("/v1/models/m:classify", "m", "/v2/models/m/v1:classify"),
        ("/v1/models/m/metadata", "m", "/v2/models/m/v1/metadata"),
        ("/v1/models/m/versions/3:predict", "m", "/v2/models/m/v1/versions/3:predict"),
        ("/v1/models/m/labels/a/metadata", "m", "/v2/models/m/v1/labels/a/metadata"),
        ("/V1/Models/m/Versions/3:Predict", "m", "/v2/models/m/v1/Versions/3:Predict"),
        ("/v1/models/m%3Apredict", "m", "/v2/models/m/v1:predict"),
        ("/v1/models/m:predict?a=%2fb", "m", "/v2/models/m/v1:predict?a=%2fb"),
        ("/v1/models/%6d:predict", "m", "/v2/models/m/v1:predict"),
        ("/v1/models/v1", "v1", "/v2/models/v1/v1"),
        ("/v1/models/v1:predict", "v1", "/v2/models/v1/v1:predict"),
        ("/v2/models/v1/infer", "v1", "/v2/models/v1/infer"),
        ("/v2/models/v1", "v1", "/v2/models/v1"),
        ("/v2/models/m/infer", "m", "/v2/models/m/infer"),
        ("/v2/models/m/labels/v1/infer", "m", "/v2/models/m/labels/v1/infer"),
        ("/v1/models/nobody:predict", "gateway", "/v2/models/nobody/v1:predict"),
        ("/v1/models", "gateway", "/v1/models"),
        ("/v1/models/", "gateway", "/v1/models/"),
        ("/v2/models/mm/infer", "gateway", "/v2/models/mm/infer"),
        ("/v2/models/nobody", "gateway", "/v2/models/nobody"),
        ("/v2/models/M/infer", "gateway", "/v2/models/M/infer"),
        ("/", "gateway", "/"),
        # No replica of theirs is up: the gateway knows why.
        ("/v2/models/asleep/infer", "gateway", "/v2/models/asleep/infer"),
        ("/v1/models/asleep:predict", "gateway", "/v2/models/asleep/v1:predict"),
        ("/v2/models/down/infer", "gateway", "/v2/models/down/infer"),
        # One spelling of each path.
        ("//v2///models/m//infer", "m", "/v2/models/m/infer"),
        ("/v2/./models/m/./infer", "m", "/v2/models/m/infer"),
        ("/v2/models/v1/../m/infer", "m", "/v2/models/m/infer"),
        ("/v2/models/v1/%2e%2e/m/infer", "m", "/v2/models/m/infer"),
        ("/../../v2/models/m", "m", "/v2/models/m"),
        ("/v2/models/m/%69nfer", "m", "/v2/models/m/infer"),
        ("/v2/models/m%20/infer", "gateway", "/v2/models/m%20/infer"),
        # Decoded twice it would be another path; once it is a name that no model has.
        ("/v2/models/v1/%252e%252e/m", "v1", "/v2/models/v1/%252e%252e/m"),
        ("/v2/models/v1%252f../m", "gateway", "/v2/models/v1%252f../m"),
    ],
)
def test_a_path_reaches_the_replica_that_it_means(edge, path, replica, seen):
    assert reached(edge.ask(path)) == (replica, seen)
    assert reached(edge.ask(path, "POST", b"x")) == (replica, seen)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        # V1's place below a model is nobody's but the edge's.
        ("/v2/models/m/v1", 404, "Not Found"),
        ("/v2/models/m/v1:predict", 404, "Not Found"),
        ("/v2/models/m/v1/metadata", 404, "Not Found"),
        ("/v2/models/m/%76%31:predict", 404, "Not Found"),
        ("/v2/models/m/v1%3apredict", 404, "Not Found"),
        ("/v2/models/m//v1:predict", 404, "Not Found"),
        ("/v2/models/m/x/../v1:predict", 404, "Not Found"),
        ("/v2/models/v1/v1:predict", 404, "Not Found"),
        ("/v2/models/nobody/v1:predict", 404, "Not Found"),
        # A pool's replicas are asked for its models by the models' own paths alone.
        ("/v2/pools", 404, "Not Found"),
        ("/v2/pools/a", 404, "Not Found"),
        ("/v2/pools/a/models/m/infer", 404, "Not Found"),
        ("/v2//pools/./a", 404, "Not Found"),
        ("/v2/%70ools/a", 404, "Not Found"),
        ("/v2/models/../pools/a", 404, "Not Found"),
        ("/v2/models/m%2Finfer", 400, "encoded slash"),
        ("/v2/models/v1%2f..%2fm/infer", 400, "encoded slash"),
        ("/v1/models/m%2fversions%2f1:predict", 400, "encoded slash"),
        ("/v2/models/m%5cinfer", 400, "encoded slash"),
        ("/v2/models/m%00/infer", 400, "control character"),
        ("/v2/models/m%0d%0aX-Evil:%201/infer", 400, "control character"),
        ("/v2/models/%zz/infer", 400, "malformed"),
        ("/v2/models/m/infer%", 400, "malformed"),
    ],
)
def test_a_path_that_means_nothing_reaches_nobody(edge, replicas, path, status, said):
    before = [replica.seen for replica in replicas.values()]
    answer = edge.ask(path, "POST", b"x")
    assert answer.status == status
    assert said in error(answer)
    assert [replica.seen for replica in replicas.values()] == before


@pytest.mark.parametrize(
    "path", ["/v1/models/m/../m/v1:predict", "/v1/models/m/v1:predict", "/v1/models/m/v1"]
)
def test_v1_below_v1_is_told_apart_by_the_replica(edge, path):
    """It is a path that V1 does not have, and no second way to what it has."""
    name, seen = reached(edge.ask(path))
    assert name == "m"
    assert "/v1/v1" in seen or "/v1/m/v1" in seen


PIECES = st.sampled_from(
    [
        "v1",
        "V1",
        "v2",
        "models",
        "m",
        "v1:predict",
        "m:predict",
        "infer",
        "versions",
        "1",
        ".",
        "..",
        "%2e%2e",
        ".%2E",
        "%76%31",
        "m%3Apredict",
        "v1%3apredict",
        "%252e%252e",
        "m%2fv1",
        "%6D",
        "m%20",
        "m;a",
        "m%",
        "m?x",
        "%2f",
        "v1%00",
        "",
    ]  # and an empty one
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(PIECES, min_size=1, max_size=7), st.sampled_from(["/v1/models/", "/v2/models/", "/"])
)
def test_whatever_is_asked_a_replica_gets_only_what_its_own_reading_says_is_its(
    edge, pieces, start
):
    """A replica decodes what is left of the spelling, and must not see another path in it."""
    asked = start + "/".join(pieces)
    answer = edge.ask(asked)
    if answer.status != 200:
        assert answer.status in (400, 404), asked
        assert error(answer)
        return
    name, seen = reached(answer)
    target = parse_path(unquote(seen.partition("?")[0]))
    assert name == (target.model if target.model in ("m", "v1") else "gateway"), (asked, seen)


def learn(edge, path, pool):
    """Have a replica answer with the header that names a pool; clients must not see it."""
    answer = edge.ask(path, X_Pool_Is=pool)
    assert "x-strata-pool" not in answer.headers
    return reached(answer)


def test_a_pool_is_learned_of_one_response_and_asked_straight_from_then_on(edge):
    assert learn(edge, "/v2/models/pooled", "a") == ("gateway", "/v2/models/pooled")
    for path, seen in [
        ("/v2/models/pooled/infer", "/v2/models/pooled/infer"),
        ("/v2/models/pooled", "/v2/models/pooled"),
        ("/v1/models/pooled:predict", "/v2/models/pooled/v1:predict"),
        ("/v2//models/p%6foled/ready", "/v2/models/pooled/ready"),
    ]:
        assert reached(edge.ask(path, "POST", b"x")) == ("pool-a", seen)
    assert reached(edge.ask("/v2/models/pool"))[0] == "gateway"
    assert reached(edge.ask("/v2/models/pooled2"))[0] == "gateway"


def test_a_model_that_moved_is_learned_anew_and_one_that_went_is_forgotten(edge):
    assert learn(edge, "/v1/models/moves:predict", "a")[0] == "gateway"
    assert learn(edge, "/v2/models/moves", "b")[0] == "pool-a"  # which passed it on
    assert reached(edge.ask("/v2/models/moves"))[0] == "pool-b"
    assert learn(edge, "/v2/models/moves", "-")[0] == "pool-b"
    assert reached(edge.ask("/v2/models/moves"))[0] == "gateway"


def test_a_pool_without_a_replica_that_is_up_or_that_is_not_there_is_the_gateways(edge):
    for pool in ("down", "nowhere"):
        assert learn(edge, "/v2/models/waits", pool)[0] == "gateway"
        assert reached(edge.ask("/v2/models/waits"))[0] == "gateway"


def test_a_client_teaches_the_edge_nothing(edge):
    for _ in range(2):
        assert reached(edge.ask("/v2/models/forged", X_Strata_Pool="a"))[0] == "gateway"
    # Nor does a response to what is no model's path, or a model with replicas of its own change.
    assert learn(edge, "/v2", "a")[0] == "gateway"
    assert reached(edge.ask("/v2"))[0] == "gateway"
    assert learn(edge, "/v2/models/m", "-")[0] == "m"
    assert reached(edge.ask("/v2/models/m"))[0] == "m"


@pytest.mark.parametrize("method", ["BREW", "TRACE", "CONNECT", "PROPFIND"])
def test_a_method_that_nothing_takes_is_refused(edge, method):
    answer = edge.ask("x:80" if method == "CONNECT" else "/v2/models/m", method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST, OPTIONS")
    assert error(answer) == "Method Not Allowed"


def test_options_of_everything_and_head_have_no_body(edge):
    answer = edge.ask("*", "OPTIONS")
    assert (answer.status, answer.body) == (204, b"")
    assert "GET" in answer.headers["allow"]
    head, got = edge.ask("/v2/models/m", "HEAD"), edge.ask("/v2/models/m")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    for bad in (
        edge.ask("/v2/models/m%00", "HEAD"),
        edge.ask("/v2/models/m", "HEAD", X_Status="400", X_Type="text/plain"),
    ):
        assert (bad.status, bad.body) == (400, b"")
        assert bad.headers["content-type"] == "application/json"


def test_headers_and_bodies_go_through_as_they_are(edge):
    answer = edge.ask("/v1/models/m:predict", "POST", b"x" * 300_000, Grpc_Timeout="500m", X_A="é")
    told = json.loads(answer.body)
    assert told["bytes"] == 300_000
    assert told["headers"]["grpc-timeout"] == "500m"
    assert told["headers"]["x-a"] == "é"
    chunks = b"".join(b"%x\r\n%s\r\n" % (size, b"y" * size) for size in (1, 70_000, 200_000))
    head = "POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with edge.connect() as connection:
        connection.sendall(head.encode() + chunks + b"0\r\n\r\n")
        assert json.loads(response(connection).body)["bytes"] == 270_001


def test_a_request_has_an_id_in_the_replica_and_in_its_answer(edge):
    answer = edge.ask("/v2/models/m")
    made = answer.headers["x-request-id"]
    assert uuid.UUID(made)
    assert json.loads(answer.body)["headers"]["x-request-id"] == made
    assert edge.ask("/v2/models/m").headers["x-request-id"] != made


@pytest.mark.parametrize("given", ["seven", "7/8+9=_~.:;", "a" * 128])
def test_an_id_of_the_client_is_kept(edge, given):
    for path in ("/v2/models/m", "/v2/models/m/v1", "/-/healthz"):
        assert edge.ask(path, X_Request_Id=given).headers["x-request-id"] == given
    told = json.loads(edge.ask("/v2/models/m", X_Request_Id=given).body)
    assert told["headers"]["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "two words", "a" * 129, "tab\there", "é"])
def test_an_id_that_is_no_short_word_is_replaced(edge, given):
    answer = edge.ask("/v2/models/m", X_Request_Id=given)
    assert uuid.UUID(answer.headers["x-request-id"])
    assert json.loads(answer.body)["headers"]["x-request-id"] == answer.headers["x-request-id"]


def test_two_ids_are_none(edge):
    answer = edge.ask("/v2/models/m", X_Request_Id="one", x_request_id="two")
    assert uuid.UUID(answer.headers["x-request-id"])


@pytest.mark.parametrize("status", [400, 404, 408, 429, 500, 503])
def test_what_ray_says_in_plain_text_is_json_with_its_status(edge, status):
    answer = edge.ask(
        "/v2/models/m", X_Status=str(status), X_Type="text/plain; charset=utf-8", X_Says='"no"\\'
    )
    assert (answer.status, error(answer)) == (status, '"no"\\')
    assert answer.headers.get("retry-after") == ("1" if status in (429, 503) else None)


def test_a_long_error_in_plain_text_is_cut(edge):
    answer = edge.ask("/v2/models/m", X_Status="500", X_Type="text/plain", X_Says="a" * 20_000)
    assert error(answer) == "a" * 4096


def test_errors_of_a_replica_and_plain_text_that_is_none_stay(edge):
    own = '{"error":"mine"}'
    answer = edge.ask("/v2/models/m", X_Status="503", X_Says=own)
    assert (answer.status, answer.body) == (503, own.encode())
    answer = edge.ask("/v2/models/m", X_Type="text/plain", X_Says="fine")
    assert (answer.status, answer.body) == (200, b"fine")


def test_a_replica_that_breaks_off_is_a_502_after_so_many_more_tries(edge, replicas):
    before = replicas["m"].seen
    answer = edge.ask("/v2/models/m/infer", "POST", b"x", X_Dies="1")
    assert answer.status == 502
    assert "broke off" in error(answer)
    assert answer.headers["retry-after"] == "1"
    assert replicas["m"].seen == before + 11  # it is the only one, and does not die of it


def test_a_request_goes_to_three_of_many_replicas(replicas, tmp_path, eventually):
    """It may be the request that they die of."""
    many = [Echo(f"many-{number}") for number in range(5)]
    ports = [each.server_port for each in many]
    gateway = application("gateway", replicas["gateway"].server_port)
    with Edge(tmp_path, application("many", *ports), gateway, idle_s=60) as edge:
        eventually(edge.is_up)
        assert edge.ask("/v2/models/many/infer", "POST", b"x", X_Dies="1").status == 502
    assert sum(each.seen for each in many) == 3


def test_the_only_replica_may_die_in_the_slow_way_of_large_processes(
    replicas, tmp_path, eventually
):
    """It breaks connections off, those too that it took while it died, and then refuses them."""
    dying = Dying(breaks_off=8)
    fallback = replicas["proxy"].server_port
    gateway = application("gateway", replicas["gateway"].server_port)
    model = application("dying", dying.port, fallback=fallback)
    with Edge(tmp_path, model, gateway, idle_s=60) as edge:
        eventually(edge.is_up)
        answer = edge.ask("/v2/models/dying/infer", "POST", b"x")
    assert dying.broke_off == 8
    assert reached(answer)[0] == "proxy"


def test_a_fallback_that_answers_checks_slowly_stands_in_all_the_same(tmp_path, eventually):
    """A gateway that takes other settings has no server but Ray's proxy."""
    slow = Echo("slow", checks_take_s=1)
    gateway = application("gateway", fallback=slow.server_port, health_check_inter="100ms")
    with Edge(tmp_path, gateway) as edge:
        eventually(edge.is_up)
        answers = []
        eventually(lambda: answers.append(reached(edge.ask("/v2"))) or slow.checked)
    assert set(answers) == {("slow", "/v2")}


def test_a_replica_that_a_request_waits_for_is_probed(edge, replicas, eventually):
    with edge.connect() as client:
        client.sendall(b"GET /v2/models/m HTTP/1.1\r\nHost: x\r\nX-Takes-S: 2\r\n\r\n")
        eventually(lambda: is_probed(replicas["m"].server_port))
        assert response(client).status == 200


def is_probed(port):
    """Return whether a connection to this port has the timer of keep-alive."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[2].endswith(f":{port:04X}") and row[5].startswith("02") for row in rows)


def test_headers_that_are_too_large_are_refused_in_json(edge):
    assert edge.ask("/v2/models/m", X_A="a" * 40_000).status == 200
    for size in (50_000, 65_536):
        answer = edge.ask("/v2/models/m", X_A="a" * size)
        assert answer.status == 431
        assert "48 KiB" in error(answer)
    # More than a buffer holds, HAProxy's parser refuses in words of its own.
    assert edge.ask("/v2/models/m", X_A="a" * 90_000).status == 400
    assert edge.ask("/v2/models/" + "m" * 90_000).status == 400


@pytest.mark.parametrize(
    "bytes_",
    [
        b"nonsense\r\n\r\n",
        b"GET /v2/models/m\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/models/m HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET /v2/models/m#a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/models/m HTTP/1.1\r\nHost: x\r\na b: c\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_400_and_reaches_nobody(edge, replicas, bytes_):
    before = replicas["m"].seen
    with edge.connect() as connection:
        connection.sendall(bytes_)
        assert response(connection).status == 400
    assert replicas["m"].seen == before


def test_a_length_beside_chunks_is_not_what_ends_a_request(edge):
    """As RFC 9112 has it; another reading would let a request hide in another one's body."""
    hidden = b"0\r\n\r\nGET /v2/models/v1 HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /v2/models/m HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    with edge.connect() as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden)
        assert reached(response(connection)) == ("m", "/v2/models/m")
        assert connection.recv(1) == b""  # and the connection ends with it


def test_statistics_and_metrics_are_for_this_machine_alone(edge):
    for port, path in ((edge.stats_port, "stats"), (edge.metrics_port, "metrics")):
        assert requests.get(f"http://127.0.0.1:{port}/{path}", timeout=30).ok
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.2:{port}/{path}", timeout=30)


def test_without_any_server_it_is_a_503_that_says_when_to_come_back(tmp_path, eventually):
    alone = (application("m"), application("n", free_port()))
    with Edge(tmp_path, *alone, idle_s=60) as edge:
        eventually(edge.is_up)
        eventually(lambda: edge.ask("/v2/models/n").status == 503)
        for path in ("/v2/models/m/infer", "/v1/models/m:predict"):
            answer = edge.ask(path, "POST", b"x")
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert "no replica" in error(answer)
        answer = edge.ask("/v2")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "starting" in error(answer)


@pytest.fixture(scope="module")
def hurried(backends, tmp_path_factory, eventually):
    folder = tmp_path_factory.mktemp("hurried")
    with Edge(folder, *backends, idle_s=3, maxconn=200).hurry() as running:
        eventually(running.is_up)
        yield running


def trickle(connection, eventually):
    """Send a byte ten times a second until the other side has had enough."""

    def sent():
        try:
            connection.sendall(b"a")
        except OSError:
            return True
        return False

    eventually(sent)


def test_headers_that_trickle_are_cut_off(hurried, eventually):
    with hurried.connect() as connection:
        connection.sendall(b"GET /v2/models/m HTTP/1.1\r\nHost: ")
        trickle(connection, eventually)
        assert response(connection).status == 408


def test_a_body_that_trickles_is_a_408_in_json(hurried, replicas, eventually):
    before = replicas["m"].seen
    with hurried.connect() as connection:
        connection.sendall(b"POST /v2/models/m HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n")
        trickle(connection, eventually)
        answer = response(connection)
    assert answer.status == 408
    assert "too slowly" in error(answer)
    assert replicas["m"].seen == before


def test_a_large_body_may_take_longer_than_its_beginning(hurried, eventually):
    size, pieces = 100_000, iter(range(20))
    head = f"POST /v2/models/m HTTP/1.1\r\nHost: x\r\nContent-Length: {20 * size}\r\n\r\n"

    def is_sent():
        connection.sendall(b"a" * size)
        return next(pieces, None) == 19

    with hurried.connect() as connection:
        connection.sendall(head.encode())
        eventually(is_sent)
        assert json.loads(response(connection).body)["bytes"] == 20 * size


def test_a_replica_may_take_longer_than_a_connection_may_be_idle(hurried):
    assert hurried.ask("/v2/models/m/infer", "POST", b"x", X_Takes_S="4").status == 200


def test_idle_connections_are_closed_without_a_word(hurried):
    with hurried.connect() as fresh, hurried.connect() as used:
        used.sendall(b"GET /v2/models/m HTTP/1.1\r\nHost: x\r\n\r\n")
        assert response(used).status == 200
        assert fresh.recv(1) == b""
        assert used.recv(1) == b""


def test_idle_connections_keep_nobody_out(hurried):
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(hurried.connect())
        assert hurried.ask("/v2/models/m").status == 200
