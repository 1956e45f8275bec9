"""Each key is put together here, or this file would be found."""

import subprocess
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from supply import locks
from supply.left_secrets import files_of, found, read_not_secrets

HEX = sha256(b"planted").hexdigest()
RANDOM = urlsafe_b64encode(bytes.fromhex(HEX)).decode().rstrip("=")
KEY = HEX[:30].upper() + HEX[30:49]
TOKEN = [
    urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg":"HS256"}', b'{"sub":1}')
]

PLANTED = {
    "Strata API key": f"curl -H 'Authorization: Bearer strata_{KEY}'",
    "AWS Access Key": f"id = AKIA{HEX[:16].upper()}",
    "Private Key": "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    "GitHub Token": f"token: ghp_{HEX[:36]}",
    "GitLab Token": f"x glpat-{HEX[:20]}",
    "PyPI Token": f"pypi-AgEIcHlwaS5vcmc{RANDOM * 2}",
    "Slack Token": f"xoxb-34532454-{HEX[:18]}",
    "Stripe Access Key": f"sk_live_{HEX[:24]}",
    "Basic Auth Credentials": f"https://user:{HEX[:8]}@example.com/simple",
    "JSON Web Token": ".".join([*TOKEN, RANDOM]),
    "Secret Keyword": f'password = "{HEX[:8]}-battery"',
    "Base64 High Entropy String": f'value = "{RANDOM}"',
    "Hex High Entropy String": f'value = "{HEX}"',
}


def kinds(tmp_path, line, not_secrets=()):
    path = tmp_path / "planted.py"
    path.write_text(f"first = 1\n{line}\n")
    return {place.partition(": ")[2] for place in found([path], list(not_secrets))}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_key_of_each_kind_is_found(tmp_path, kind):
    assert kind in kinds(tmp_path, PLANTED[kind])


@pytest.mark.parametrize("kind", PLANTED)
def test_no_line_that_is_listed_as_no_secret_hides_one(tmp_path, kind):
    listed = read_not_secrets()
    assert kind in kinds(tmp_path, PLANTED[kind], listed)


def test_a_key_in_place_of_a_secrets_name_is_found(tmp_path):
    line = f"existingSecret: strata_{KEY}"
    assert "Strata API key" in kinds(tmp_path, line, read_not_secrets())
    assert not kinds(tmp_path, "existingSecret: redis-password", read_not_secrets())


@pytest.mark.parametrize("name", ["x.lock", "x.yaml", "x.json", "Dockerfile", ".env", "x.md"])
def test_files_of_every_kind_are_looked_through(tmp_path, name):
    path = tmp_path / name
    path.write_text(f"--index-url https://user:{HEX[:8]}@example.com/simple\n")
    assert list(found([path], [])) == [f"{path}:1: Basic Auth Credentials"]


def test_the_scanner_and_its_tests_are_clean_themselves():
    files = [*Path(__file__).parent.glob("*.py"), *Path(locks.__file__).parent.glob("*.py")]
    assert not list(found(files, read_not_secrets()))


@pytest.mark.parametrize(
    "line",
    [
        "strata_model_request_duration_seconds_bucket_of_a_long_name_indeed",
        f"strata_{KEY[:48]}",
        f"other_strata_{KEY}",
    ],
)
def test_names_are_no_keys_of_strata(tmp_path, line):
    assert "Strata API key" not in kinds(tmp_path, line)


def test_a_place_is_told_and_the_secret_is_not(tmp_path):
    path = tmp_path / "planted.py"
    path.write_text("\n\n" + PLANTED["Stripe Access Key"])
    assert list(found([path], [])) == [f"{path}:3: Stripe Access Key"]


def test_what_git_has_and_would_take_is_scanned(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    for name in (".gitignore", "new name.py", "ignored.env", "gone.py"):
        (tmp_path / name).write_text("ignored.env\n")
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\0")
    subprocess.run(["git", "-C", tmp_path, "add", ".gitignore", "gone.py"], check=True)
    (tmp_path / "gone.py").unlink()
    assert {path.name for path in files_of(tmp_path)} == {".gitignore", "new name.py"}


def test_a_line_without_a_reason_is_refused(tmp_path):
    path = tmp_path / "not_secrets.toml"
    path.write_text('[[lines]]\npattern = "x"\n')
    with pytest.raises(SystemExit, match="needs a pattern and a reason"):
        read_not_secrets(path)
