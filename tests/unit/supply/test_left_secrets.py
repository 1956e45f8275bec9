"""Each key is put together here, or this file would be found."""

import subprocess

import pytest
from supply.left_secrets import files_of, found, read_not_secrets

RANDOM = "q8Zr3vKx" + "T1mWc7Yb" + "Ln0sHd5P" + "jG2uEa6f" + "Io9RkQ4X" + "wVz"

PLANTED = {
    "Strata API key": f"curl -H 'Authorization: Bearer strata_{RANDOM}_a1B2c3'",
    "AWS Access Key": "id = AKIA" + "QYLPMN5HFIQR7BBB",
    "Private Key": "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    "GitHub Token": "token: ghp_" + "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx",
    "GitLab Token": "x glpat-" + "hellOworld380_testin",
    "PyPI Token": "pypi-AgEIcHlwaS5vcmc"
    + "CJDc1M2M0YmE3LWU0MzAtNDgzNC1hYWNiLWFkNjY3ZWEyZGNmMQ"
    + "ACKlszLCJhYjAwOTU3Ny0xNTI3LTRiNDYtOTY5Mi0yYTU5NjA0ZTZkNTEiXQAABiDrxoX3P",
    "Slack Token": "xoxb-" + "34532454-e039d02840a0b9379c",
    "Stripe Access Key": "sk_live_" + "ReTllpYQYfIZu2Jnf2lAPFjD",
    "Basic Auth Credentials": "https://user:" + "hunter22@example.com/simple",
    "JSON Web Token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "Secret Keyword": 'password = "' + 'correct-horse-battery"',
    "Base64 High Entropy String": f'value = "{RANDOM}"',
    "Hex High Entropy String": 'value = "' + '2b00042f7481c7b056c4b410d28f33cf"',
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
    line = f"existingSecret: strata_{RANDOM}_a1B2c3"
    assert "Strata API key" in kinds(tmp_path, line, read_not_secrets())
    assert not kinds(tmp_path, "existingSecret: redis-password", read_not_secrets())


@pytest.mark.parametrize(
    "line",
    [
        "strata_model_request_duration_seconds_bucket_of_a_long_name_indeed",
        f"strata_{RANDOM[:42]}",
        f"other_strata_{RANDOM}",
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
    subprocess.run(["git", "-C", tmp_path, "add", ".gitignore", "gone.py"], check=True)
    (tmp_path / "gone.py").unlink()
    assert {path.name for path in files_of(tmp_path)} == {".gitignore", "new name.py"}


def test_a_line_without_a_reason_is_refused(tmp_path):
    path = tmp_path / "not_secrets.toml"
    path.write_text('[[lines]]\npattern = "x"\n')
    with pytest.raises(SystemExit, match="needs a pattern and a reason"):
        read_not_secrets(path)
