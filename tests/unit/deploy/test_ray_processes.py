"""What is changed of how Ray starts its processes; tests/integration/test_up.py tries it."""

import subprocess
import sys

import pytest
from ray._private import parameter, services

from serve.deploy import worker_client
from serve.deploy.ray_processes import few_and_forked, patient

_OF_WORKERS = subprocess.list2cmdline(
    [sys.executable, "setup_worker.py", "default_worker.py", "-x"]
)


@pytest.fixture
def started(monkeypatch):
    """What Ray has started: command, type and the other arguments."""
    found = []

    def start(command, process_type, fate_share):
        found.append((command, process_type, fate_share))
        return "its process"

    monkeypatch.setattr(services, "start_ray_process", start)
    return found


def test_of_all_that_ray_starts_the_dashboard_alone_is_told_what_to_load(started):
    start, params = services.start_ray_process, parameter.RayParams
    with few_and_forked("/s", has_dashboard=False):
        assert services.start_ray_process(["a"], "dashboard", fate_share=True) == "its process"
        services.start_ray_process(["b"], "gcs_server", fate_share=False)
        told = parameter.RayParams(num_cpus=2)
        assert (told.no_monitor, told.include_log_monitor, told.num_cpus) == (True, False, 2)
    assert services.start_ray_process is start
    assert parameter.RayParams is params
    assert started == [
        (["a", "--modules-to-load=ServeHead,StateHead"], "dashboard", True),
        (["b"], "gcs_server", False),
    ]


def test_with_its_pages_the_dashboard_has_all_that_ray_gives_it(started):
    params = parameter.RayParams
    with few_and_forked("/s", has_dashboard=True):
        services.start_ray_process(["a"], "dashboard", fate_share=True)
        assert parameter.RayParams is params
    assert started == [(["a"], "dashboard", True)]


def test_the_raylet_starts_its_workers_of_python_by_the_client_of_the_fork_server(started):
    others = ["raylet", "--java_worker_command=", f"--cpp_worker_command={_OF_WORKERS}"]
    command = [*others, f"--python_worker_command={_OF_WORKERS}"]
    with few_and_forked("/a folder/s", has_dashboard=False):
        services.start_ray_process(command, "raylet", fate_share=True)
    ((command, *_),) = started
    assert command[:-1] == others
    client = [sys.executable, "-I", "-S", worker_client.__file__, "/a folder/s"]
    whole = subprocess.list2cmdline([*client, "setup_worker.py", "default_worker.py", "-x"])
    assert command[-1] == f"--python_worker_command={whole}"


def test_a_command_of_workers_that_is_not_known_stays_as_ray_made_it(started):
    command = ["raylet", "--python_worker_command=another setup_worker.py default_worker.py"]
    with few_and_forked("/s", has_dashboard=False):
        services.start_ray_process(command, "raylet", fate_share=True)
    assert started == [(command, "raylet", True)]


def test_a_node_that_registers_late_is_waited_for(monkeypatch):
    answers = iter([RuntimeError("not yet"), RuntimeError("not yet"), {"node_id": "n"}])

    def get_node(gcs_address, node_id):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(services, "get_node", get_node)
    with patient():
        assert services.get_node("127.0.0.1:1", "n") == {"node_id": "n"}
    assert services.get_node is get_node


def test_a_node_that_never_registers_is_ray_s_own_error(monkeypatch):
    def get_node(gcs_address, node_id):
        raise RuntimeError("no such node")

    monkeypatch.setattr(services, "get_node", get_node)
    with patient(registers_within_s=0.0), pytest.raises(RuntimeError, match="no such node"):
        services.get_node("127.0.0.1:1", "n")
