import pytest

from serve.config.schema import Http
from serve.deploy.environment import connections_allowed, ray_environment


def test_haproxy_is_on_unless_it_is_turned_off():
    assert ray_environment(Http(), 65536)["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    without = ray_environment(Http(haproxy=False), 65536)
    assert without["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    assert without["RAY_SERVE_ENABLE_DIRECT_INGRESS"] == "0"


@pytest.mark.parametrize(("files", "connections"), [(1_000_000, 20_000), (20_000, 7_800)])
def test_connections_are_bounded_by_open_files(files, connections):
    assert connections_allowed(files) == connections
    assert ray_environment(Http(), files)["RAY_SERVE_HAPROXY_MAXCONN"] == str(connections)


@pytest.mark.parametrize("haproxy", [True, False])
def test_a_call_between_replicas_may_be_as_large_as_any_body(haproxy):
    environment = ray_environment(Http(haproxy=haproxy), 65536)
    assert int(environment["RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"]) == 2**31 - 1
