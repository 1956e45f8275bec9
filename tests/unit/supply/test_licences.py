from importlib.metadata import PathDistribution

import pytest
from supply.licences import Licences, problems
from supply.locks import LOCKS, pinned

LISTED = """
permissive = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
[words]
"MIT License" = "MIT"
"GPLv3" = "GPL-3.0-only"
[packages.vague]
licence = "MIT"
reason = "read"
[exceptions.excepted]
licence = "GPL-3.0-only"
reason = "a program of its own"
"""


@pytest.fixture
def licences(tmp_path):
    return read(tmp_path, LISTED)


def read(tmp_path, text):
    path = tmp_path / "licences.toml"
    path.write_text(text)
    return Licences.read(path)


def package(tmp_path, name, *lines):
    folder = tmp_path / f"{name}-1.0.dist-info"
    folder.mkdir()
    head = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0"]
    (folder / "METADATA").write_text("\n".join([*head, *lines]) + "\n")
    return PathDistribution(folder)


@pytest.mark.parametrize(
    ("name", "lines", "licence"),
    [
        ("a", ["License-Expression: Apache-2.0 OR MIT"], "Apache-2.0 OR MIT"),
        ("a", ["License: MIT License"], "MIT"),
        (
            "a",
            ["License: in LICENSE.txt", "Classifier: License :: OSI Approved :: MIT License"],
            "MIT",
        ),
        ("a", ["License: BSD"], None),
        ("a", ["Classifier: Framework :: MIT License"], None),
        ("a", [], None),
        ("Vague", ["License: BSD"], "MIT"),
    ],
)
def test_a_licence_is_read_wherever_packages_say_it(tmp_path, licences, name, lines, licence):
    assert licences.of(package(tmp_path, name, *lines)) == licence


@pytest.mark.parametrize(
    ("expression", "taken"),
    [
        ("MIT", True),
        ("MIT AND Apache-2.0", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("MIT AND (GPL-3.0-only OR Apache-2.0)", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("Proprietary", False),
    ],
)
def test_of_alternatives_one_must_be_permissive_and_of_parts_all(licences, expression, taken):
    assert licences.are_permissive(expression) is taken


def said(monkeypatch, tmp_path, licences, name, *lines):
    made = package(tmp_path, name, *lines)
    monkeypatch.setattr("supply.licences.installed", lambda _: made)
    wanted = {"vague": "1", "excepted": "1"} | {name: "1.0"}
    return [line for line in problems(wanted, licences) if line.startswith(f"{name} 1")]


def test_a_package_whose_licence_is_not_taken_is_named(monkeypatch, tmp_path, licences):
    (sentence,) = said(monkeypatch, tmp_path, licences, "new", "License: GPLv3")
    assert "new 1.0: the licence GPL-3.0-only is not among those that are taken" in sentence


def test_a_package_that_does_not_say_its_licence_is_named(monkeypatch, tmp_path, licences):
    (sentence,) = said(monkeypatch, tmp_path, licences, "new", "License: a text of its own")
    assert "does not say the licence" in sentence


def test_an_exception_holds_for_its_licence_alone(monkeypatch, tmp_path, licences):
    assert not said(monkeypatch, tmp_path, licences, "excepted", "License: GPLv3")


def test_an_exception_does_not_hold_for_another_licence(monkeypatch, tmp_path, licences):
    changed = "License-Expression: AGPL-3.0-only"
    (sentence,) = said(monkeypatch, tmp_path, licences, "excepted", changed)
    assert "AGPL-3.0-only is not among" in sentence


def test_an_exception_that_is_not_needed_or_not_there_is_named(monkeypatch, tmp_path, licences):
    (sentence,) = said(monkeypatch, tmp_path, licences, "excepted", "License: MIT License")
    assert "an exception that it does not need" in sentence
    assert list(problems({}, licences)) == [
        "excepted is in licences.toml and in no lock file; take it out",
        "vague is in licences.toml and in no lock file; take it out",
    ]


def test_an_entry_without_a_reason_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="excepted needs a licence and a reason"):
        read(tmp_path, LISTED.replace('reason = "a program of its own"', ""))


def test_all_that_the_lock_files_install_is_taken():
    wanted = {name: version for lock in LOCKS for name, version in pinned(lock).items()}
    assert not list(problems(wanted, Licences.read()))
