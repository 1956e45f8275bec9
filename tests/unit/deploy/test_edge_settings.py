from pathlib import Path

import pytest

from serve.config.schema import Config
from serve.deploy.applications import deploy_config
from serve.deploy.changes import user_config_of
from serve.deploy.edge_settings import (
    edge_settings,
    require_jwks,
    require_keys,
    with_edge_settings,
)
from serve.edge.haproxy.settings import Cors, EdgeSettings, Jwt, RequestQuota, Tls, settings_of
from serve.edge.keys import dump_keys
from serve.errors import ConfigError
from tests.authority import Authority
from tests.issuer import SigningKey, jwks


def config(**access):
    tree = {"models": [{"name": "m"}], "tenants": {"header": "X-Who"}, "access": access}
    return Config.model_validate(tree)


def test_the_edge_is_told_what_the_config_says():
    quotas = [{"requests_per_s": 3}, {"tenant": "web", "model": "m", "concurrent_requests": 0}]
    assert edge_settings(config(keys="/a/keys.json", quotas=quotas)) == EdgeSettings(
        keys=Path("/a/keys.json"),
        tenant_header="x-who",
        quotas=(RequestQuota("*", None, 3, None), RequestQuota("web", "m", None, 0)),
    )


def test_the_gateway_carries_it_and_nothing_else_changes():
    tree = config(keys="/a/keys.json")
    before = deploy_config(tree)
    told = with_edge_settings(before, tree)
    gateway, *others = told["applications"]
    assert settings_of(user_config_of(gateway)["edge"]) == edge_settings(tree)
    assert others == before["applications"][1:]
    assert "edge" not in user_config_of(before["applications"][0])


def test_keys_that_are_not_there_yet_are_told_with_how_to_make_them(tmp_path):
    path = tmp_path / "keys.json"
    with pytest.raises(ConfigError, match=r"there is no .*keys\.json; `strata keys create"):
        require_keys(config(keys=str(path)))
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"access\.keys: .*keys\.json cannot be used"):
        require_keys(config(keys=str(path)))
    path.write_text(dump_keys([]))
    require_keys(config(keys=str(path)))
    require_keys(config())


PAIR = {"certificate": "/a.crt", "key": "/a.key"}


@pytest.mark.parametrize(
    ("tls", "told"),
    [
        (PAIR, Tls(Path("/a.crt"), Path("/a.key"), public_port=8443, hsts_max_age_s=31_536_000)),
        (
            {**PAIR, "client_ca": "/ca", "redirect_port": 80, "public_port": 443},
            Tls(Path("/a.crt"), Path("/a.key"), Path("/ca"), True, 80, 443, 31_536_000),
        ),
        (
            {**PAIR, "client_ca": "/ca", "client_certificates": "optional", "hsts_max_age_s": 0},
            Tls(Path("/a.crt"), Path("/a.key"), Path("/ca"), False, None, 8443, 0),
        ),
    ],
)
def test_https_is_told_with_where_clients_find_it(tls, told):
    assert edge_settings(Config.model_validate({"http": {"port": 8443, "tls": tls}})).tls == told


def test_origins_are_told_and_nothing_where_there_is_nothing():
    http = {"cors": {"origins": ["https://a.example"], "max_age_s": 5}}
    assert edge_settings(Config.model_validate({"http": http})).cors == Cors(
        ("https://a.example",), 5
    )
    settings = edge_settings(Config())
    assert (settings.tls, settings.cors) == (None, None)


def tokens(**changed):
    told = {"issuer": "https://x/", "jwks": "https://x/jwks", "audience": "strata"}
    return config(jwt={**told, **changed})


def test_tokens_are_told_as_they_are_written():
    wanted = Jwt("https://x/", "https://x/jwks", "strata", "RS256", jwks_ca=Path("/ca"))
    settings = edge_settings(tokens(jwks_ca="/ca"))
    assert settings == EdgeSettings(tenant_header="x-who", jwt=wanted)


def test_files_by_which_no_token_could_be_verified_are_refused(tmp_path):
    file, ca = tmp_path / "jwks.json", tmp_path / "ca.pem"
    with pytest.raises(
        ConfigError, match=r"access\.jwt\.jwks: .*jwks\.json cannot be used: .*No such"
    ):
        require_jwks(tokens(jwks=str(file)))
    file.write_bytes(jwks(SigningKey("ES256")))
    with pytest.raises(ConfigError, match="no key that verifies RS256"):
        require_jwks(tokens(jwks=str(file)))
    require_jwks(tokens(jwks=str(file), algorithm="ES256"))
    ca.write_text("-----BEGIN")
    for text in ("-----BEGIN", ""):
        ca.write_text(text)
        with pytest.raises(ConfigError, match=r"access\.jwt\.jwks_ca: .*ca\.pem cannot be used"):
            require_jwks(tokens(jwks_ca=str(ca)))
    ca.write_text(Authority().certificate)
    require_jwks(tokens(jwks_ca=str(ca)))
    require_jwks(config())


def test_haproxy_is_told_of_quotas_only_where_it_has_something_to_count():
    rows, seconds = {"rows_per_s": 3}, {"tenant": "web", "compute_s_per_day": 0.5}
    assert edge_settings(config(quotas=[rows, seconds])).quotas == ()
    both = [{"requests_per_s": 3, **rows}, seconds]
    assert edge_settings(config(quotas=both)).quotas == (
        RequestQuota("*", None, 3, None),
        RequestQuota("web", None, None, None),  # in place of the other one
    )
