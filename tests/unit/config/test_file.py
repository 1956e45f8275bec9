import tempfile

import pytest
import yaml

from serve.config.file import load
from serve.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modles: []", "modles: unknown key"),
        ("models: [{name: a, batch: 1}]", "models[0].batch: unknown key"),
        ("models: [{name: a}, {}]", "models[1].name: field required"),
        ("models: [{}]", "models[0].name: field required"),
        (
            "models: [{name: a, batching: {max_batch_size: 0}}]",
            "models[0].batching.max_batch_size: input should be greater than or equal to 1",
        ),
        ("modles: []\nhttp: {prot: 1}", "http.prot: unknown key; modles: unknown key"),
        ("http: {port: 1, port: 2}", "the key 'port' is given twice"),
        ("models: [{name: a, version_labels: {b: 00000123}}]", "00000123 would be octal"),
        ("models: [", "not YAML"),
        ("http: {[a]: 1}", "not YAML: a list or a mapping cannot be a key"),
        ("http: {{a: 1}: 1}", "not YAML: a list or a mapping cannot be a key"),
        ("http: {<<: 3}", "not YAML: while constructing a mapping"),
        ("http: {<<: {port: 1}, <<: {port: 2}}", "<< is given twice"),
        ("http: {<<: {port: 1, port: 2}}", "the key 'port' is given twice"),
        ("- a", "the file: input should be a valid dictionary"),
        ("models: [{name: !!python/name:os.system ''}]", "not YAML"),
    ],
)
def test_a_mistake_is_refused_with_the_path_of_its_key(refusal, text, said):
    assert said in refusal(text)


def test_what_is_merged_in_is_overruled_by_a_key_beside_it(load_text):
    config = load_text(
        "models:\n"
        "- &a {name: a, batching: &small {max_batch_size: 4}}\n"
        "- {<<: *a, name: b, batching: {<<: *small, max_batch_size: 8}}\n"
        "- {<<: [*a], name: c}\n"
    )
    assert [model.name for model in config.models] == ["a", "b", "c"]
    assert [model.batching.max_batch_size for model in config.models] == [4, 8, 4]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml: no such file"):
        load(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("content", [b"\xff\xfe\xff", None])
def test_a_file_that_is_no_text_cannot_be_read(tmp_path, content):
    path = tmp_path / "strata.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"strata\.yaml: cannot be read"):
        load(path)


def test_an_empty_file_is_all_defaults(load_text):
    assert load_text("").models == ()


def test_a_relative_repository_is_taken_from_the_files_folder(load_text, tmp_path):
    config = load_text("repository: {root: here}")
    assert config.repository.root == str(tmp_path / "here")
    url = load_text("repository: {root: 's3://bucket/models'}")
    assert url.repository.root == "s3://bucket/models"


def test_a_key_is_taken_as_it_is_or_is_a_file_beside_the_config(load_text, tmp_path):
    raw, der = "A" * 43 + "=", "A" * 59 + "="
    text = f"""
      repository:
        public_keys:
          - strata.pub
          - /keys/strata.pub
          - {raw}
          - {der}
          - |
            -----BEGIN PUBLIC KEY-----
            {der}
            -----END PUBLIC KEY-----
    """
    pem = f"-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----"
    keys = load_text(text).repository.public_keys
    assert keys == (str(tmp_path / "strata.pub"), "/keys/strata.pub", raw, der, pem)


def test_a_tilde_is_the_home_folder(load_text, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    repository = load_text("repository: {root: ~/models, cache_dir: ~/copies}").repository
    assert repository.root == str(tmp_path / "home" / "models")
    assert repository.cache_dir == str(tmp_path / "home" / "copies")


def test_a_user_id_without_a_name_has_a_temporary_folder_for_a_home(load_text, monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 3_141_592)
    repository = load_text("repository: {root: /models}").repository
    assert repository.cache_dir == f"{tempfile.gettempdir()}/strata-3141592/.cache/strata"


def test_the_demo_file_is_valid(pytestconfig):
    path = pytestconfig.rootpath / "strata.yaml"
    assert yaml.safe_load(path.read_text())["models"][0]["name"] == "digits"
    load(path)


def test_files_of_tokens_are_of_the_files_folder_and_urls_are_not(tmp_path, load_text):
    text = """\
    access:
      jwt: {issuer: https://x/, jwks: %s, audience: strata%s}
    models: [{name: m}]
    """
    read = load_text(text % ("jwks.json", "")).access.jwt
    assert (read.jwks, read.jwks_ca) == (str(tmp_path / "jwks.json"), None)
    read = load_text(text % ("https://x/jwks", ", jwks_ca: ca.pem")).access.jwt
    assert (read.jwks, read.jwks_ca) == ("https://x/jwks", str(tmp_path / "ca.pem"))
