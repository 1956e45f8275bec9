"""What the README shows works as it stands, on another port."""

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration


def _blocks(pytestconfig, language):
    text = (pytestconfig.rootpath / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def _here(served, pytestconfig, tmp_path, text):
    """Point a snippet at the running platform, and at pictures made for it."""
    from serve.learn.samples import write_samples

    write_samples(tmp_path / "samples")
    ingress = served.url.removeprefix("http://")
    metrics = served.metrics_url.removeprefix("http://").removesuffix("/metrics")
    text = text.replace("localhost:8000", ingress).replace("localhost:9100", metrics)
    strata = f"{sys.executable} -m serve predict --url {served.url}"
    text = text.replace(".venv/bin/strata predict", strata)
    return text.replace("samples/", f"{tmp_path}/samples/")


def test_the_python_snippets_run_one_after_the_other(served, pytestconfig, tmp_path):
    code = "\n".join(_blocks(pytestconfig, "python"))
    code = _here(served, pytestconfig, tmp_path, code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 2


def test_the_shell_lines_run(served, pytestconfig, tmp_path, eventually):
    for block in _blocks(pytestconfig, "bash"):
        for line in block.splitlines():
            command = _here(served, pytestconfig, tmp_path, line)
            # Ray's exporter is some seconds behind, so the line about metrics may take a moment.
            eventually(lambda command=command: _prints(command, pytestconfig.rootpath))


def _prints(command, folder):
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    return done.returncode == 0 and done.stdout.strip()


def test_the_example_configurations_are_valid(pytestconfig, tmp_path):
    from serve.config.file import load

    served = []
    for block in _blocks(pytestconfig, "yaml"):
        (tmp_path / "strata.yaml").write_text(block)
        served.append([each.name for each in load(tmp_path / "strata.yaml").served])
    assert served == [["digits", "churn"], ["digits-layered"]]


def test_the_line_that_up_prints_works_as_printed(served):
    from serve.cli.example import example_call
    from serve.deploy.ingress import Ingress

    for model in ("digits", "text", "calc"):
        done = subprocess.run(
            ["bash", "-c", example_call(Ingress(served.url), model)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert '"outputs"' in done.stdout


def test_links_between_pages_lead_somewhere(pytestconfig):
    root = pytestconfig.rootpath
    for page in [*root.glob("*.md"), *(root / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_is_short(pytestconfig):
    assert len((pytestconfig.rootpath / "README.md").read_text().splitlines()) < 200
