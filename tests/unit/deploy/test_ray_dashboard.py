"""Ray starts its dashboard with the control API alone; tests/integration/test_up.py tries it."""

from ray._private import services

from serve.deploy.ray_dashboard import only_control_api


def test_of_all_that_ray_starts_the_dashboard_alone_is_told_what_to_load(monkeypatch):
    started = []

    def start(command, process_type, fate_share):
        started.append((command, process_type, fate_share))
        return "its process"

    monkeypatch.setattr(services, "start_ray_process", start)
    with only_control_api():
        assert services.start_ray_process(["a"], "dashboard", fate_share=True) == "its process"
        services.start_ray_process(["b"], "raylet", fate_share=False)
    assert services.start_ray_process is start
    assert started == [
        (["a", "--modules-to-load=ServeHead,StateHead"], "dashboard", True),
        (["b"], "raylet", False),
    ]
