from dataclasses import replace
from pathlib import Path

import pytest

from serve.edge.haproxy.settings import (
    Cors,
    EdgeSettings,
    Jwt,
    RequestQuota,
    Tls,
    edge_secret,
    read_settings,
)
from serve.errors import ConfigError

WHOLE = EdgeSettings(
    keys=Path("/a/keys.json"),
    tenant_header="x-who",
    quotas=(RequestQuota("web", None, 1, None), RequestQuota("*", "m", None, 0)),
    own_key="ab",
    tls=Tls(Path("/a.crt"), Path("/a.key"), Path("/ca.crt"), True, 8080, 443, 60),
    cors=Cors(("https://a.example", "http://b:1"), 600),
    jwt=Jwt(
        "https://x.example/",
        "https://x.example/jwks",
        "strata",
        "ES256",
        models_claim="models",
        jwks_ca=Path("/ca.pem"),
    ),
)


@pytest.mark.parametrize("settings", [EdgeSettings(), WHOLE])
def test_what_is_written_is_read_again(tmp_path, settings):
    path = tmp_path / "edge.json"
    path.write_text(settings.to_json())
    assert read_settings({"STRATA_EDGE_SETTINGS": str(path)}) == settings


@pytest.mark.parametrize("environment", [{}, {"STRATA_EDGE_SETTINGS": ""}])
def test_without_a_file_anybody_may(environment):
    assert read_settings(environment) == EdgeSettings()
    assert not EdgeSettings().has_access


@pytest.mark.parametrize("text", [None, "", "[]", "{}", WHOLE.to_json()[:-5], '{"keys": 1}'])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path, text):
    path = tmp_path / "edge.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"edge\.json, which STRATA_EDGE_SETTINGS names"):
        read_settings({"STRATA_EDGE_SETTINGS": str(path)})


def test_quotas_are_in_maps_and_change_no_line():
    some = EdgeSettings(keys=Path("/a"), quotas=WHOLE.quotas)
    assert some.lines == EdgeSettings(keys=Path("/b")).lines
    assert some.lines != EdgeSettings(quotas=WHOLE.quotas).lines
    assert EdgeSettings().lines != EdgeSettings(quotas=WHOLE.quotas).lines


def test_another_certificate_is_no_other_line_and_another_port_is():
    tls = WHOLE.tls
    renamed = replace(tls, certificate=Path("/b"), key=Path("/b"), client_ca=Path("/b"))
    assert WHOLE.lines == replace(WHOLE, tls=renamed).lines
    for other in (None, replace(tls, redirect_port=1), replace(tls, client_ca=None)):
        assert WHOLE.lines != replace(WHOLE, tls=other).lines
    assert WHOLE.lines != replace(WHOLE, cors=None).lines


def test_an_agent_is_needed_for_whatever_may_change_while_haproxy_runs():
    assert not EdgeSettings().needs_agent
    assert EdgeSettings(cors=WHOLE.cors).needs_agent
    assert EdgeSettings(tls=WHOLE.tls).needs_agent
    assert EdgeSettings(quotas=WHOLE.quotas).needs_agent


def test_the_secret_is_strata_ups_or_made_of_the_clusters_token():
    haproxy = {"RAY_SERVE_ENABLE_HA_PROXY": "1"}
    own, token = {"STRATA_EDGE_SECRET": "own"}, {"RAY_AUTH_TOKEN": "token"}
    assert edge_secret(haproxy | own | token) == "own"
    derived = edge_secret(haproxy | token)
    assert derived is not None
    assert len(derived) == 64
    assert derived != edge_secret(haproxy | {"RAY_AUTH_TOKEN": "another"})
    assert edge_secret(haproxy) is None


@pytest.mark.parametrize("haproxy", [{}, {"RAY_SERVE_ENABLE_HA_PROXY": "0"}])
def test_without_haproxy_there_is_nothing_to_prove(haproxy):
    assert edge_secret({**haproxy, "STRATA_EDGE_SECRET": "own", "RAY_AUTH_TOKEN": "t"}) is None


def test_where_an_issuers_keys_are_is_in_no_line_and_what_a_token_says_is():
    moved = replace(WHOLE.jwt, jwks="/jwks.json", jwks_ca=None)
    assert WHOLE.lines == replace(WHOLE, jwt=moved).lines
    for other in (None, replace(WHOLE.jwt, audience="x"), replace(WHOLE.jwt, algorithm="RS256")):
        assert WHOLE.lines != replace(WHOLE, jwt=other).lines


def test_tokens_alone_ask_who_it_is():
    alone = EdgeSettings(jwt=WHOLE.jwt)
    assert alone.asks_who
    assert alone.has_access
    assert not EdgeSettings(quotas=WHOLE.quotas).asks_who
    # Who had quotas alone asks nobody yet.
    assert alone.lines != EdgeSettings(quotas=WHOLE.quotas).lines
