"""Cluster: nodes, their CPU, memory and GPUs, and the processes that hold the platform together.

By Ray's own metrics, which a machine has as well as a cluster, and HAProxy's.
"""

from typing import Any

from dashboards.control_plane import control_plane
from dashboards.edge import edge
from dashboards.panels import (
    Panel,
    Query,
    Row,
    Section,
    board,
    chart,
    number,
    query_variable,
    runbook,
    to_dashboard,
)
from dashboards.pools import pools
from dashboards.promql import everything, of_application, or_zero

_ALL = everything()
_PENDING = or_zero(f"sum(ray_cluster_pending_nodes{_ALL})")
_NODES = f"count(ray_node_cpu_count{_ALL})"
_GPU_MEMORY = f"(ray_node_gram_used{_ALL} + ray_node_gram_available{_ALL})"
_FULL = [(None, "green"), (0.8, "orange"), (0.9, "red")]
_GPU = "{{ip}} GPU {{GpuIndex}}"


def cluster() -> dict[str, Any]:
    models = query_variable("model", f"label_values(ray_model_ready{_ALL}, model)", several=True)
    return board(
        "cluster",
        "The machines and the processes of the platform: CPU, memory, GPUs, controller, HAProxy.",
        [models],
        [
            Section("Now", _now()),
            Section("Nodes", _nodes()),
            Section("GPUs and the object store", [Row(7, _devices())]),
            Section("Pools of models", pools()),
            Section("Control plane", [Row(7, control_plane())]),
            Section("The edge: HAProxy", edge()),
        ],
    )


def _now() -> list[Row]:
    cpu = f"sum(ray_node_cpu_utilization{_ALL} * ray_node_cpu_count{_ALL})"
    return [
        Row(
            4,
            [
                number(
                    "Nodes",
                    "short",
                    runbook("WorkersPending"),
                    "Ray nodes that run (pods, on Kubernetes), and those that Ray waits for.",
                    Query(_NODES, "run"),
                    Query(_PENDING, "pending"),
                ),
                number(
                    "CPU",
                    "percentunit",
                    to_dashboard("cost"),
                    "CPU in use of all nodes together.",
                    Query(f"{cpu} / 100 / sum(ray_node_cpu_count{_ALL})"),
                    steps=_FULL,
                ),
                number(
                    "Memory",
                    "percentunit",
                    runbook("ControlPlaneMemoryGrows"),
                    "Memory in use of all nodes together.",
                    Query(
                        f"sum(ray_node_mem_used{_ALL}) / sum(ray_node_mem_total{_ALL})",
                    ),
                    steps=_FULL,
                ),
                number(
                    "GPU memory",
                    "percentunit",
                    runbook("GpuMemoryHigh"),
                    "Memory in use of the fullest GPU. 0 without a GPU.",
                    Query(or_zero(f"max(ray_node_gram_used{_ALL} / ({_GPU_MEMORY} > 0))")),
                    steps=_FULL,
                ),
            ],
        ),
    ]


def _nodes() -> list[Row]:
    return [
        Row(
            7,
            [
                chart(
                    "CPU by node",
                    "percent",
                    to_dashboard("cost"),
                    "CPU in use of each node.",
                    Query(f"max by (ip) (ray_node_cpu_utilization{_ALL})", "{{ip}}"),
                ),
                chart(
                    "Memory by node",
                    "bytes",
                    runbook("ControlPlaneMemoryGrows"),
                    "Memory in use of each node, and what it has.",
                    Query(f"max by (ip) (ray_node_mem_used{_ALL})", "{{ip}} used"),
                    Query(f"max by (ip) (ray_node_mem_total{_ALL})", "{{ip}} there"),
                ),
                chart(
                    "Nodes by state",
                    "short",
                    runbook("WorkersPending"),
                    "Ray nodes (pods, on Kubernetes) that run, that Ray waits for, that failed.",
                    Query(_NODES, "run"),
                    Query(_PENDING, "pending"),
                    Query(or_zero(f"sum(ray_cluster_failed_nodes{_ALL})"), "failed"),
                ),
                chart(
                    "Healthy replicas",
                    "short",
                    runbook("ModelNotReady"),
                    "Replicas that pass Ray's health checks, by model.",
                    Query(
                        "sum by (application)"
                        f" (ray_serve_deployment_replica_healthy{of_application()})",
                        "{{application}}",
                    ),
                ),
            ],
        ),
        Row(
            7,
            [
                chart(
                    "CPUs reserved",
                    "short",
                    runbook("WorkersPending"),
                    "CPUs that replicas reserve, and those that no one does.",
                    Query(_resource("CPU", "USED"), "reserved"),
                    Query(_resource("CPU", "AVAILABLE"), "free"),
                    look="stacked",
                ),
                chart(
                    "Network",
                    "Bps",
                    to_dashboard("overview"),
                    "Bytes a second that the nodes receive and send.",
                    Query(f"sum(ray_node_network_receive_speed{_ALL})", "received"),
                    Query(f"sum(ray_node_network_send_speed{_ALL})", "sent"),
                ),
                chart(
                    "Disk",
                    "percent",
                    runbook("ModelLoadFailed"),
                    "Disk in use of each node: versions are fetched to it.",
                    Query(f"max by (ip) (ray_node_disk_utilization_percentage{_ALL})", "{{ip}}"),
                ),
            ],
        ),
    ]


def _resource(name: str, state: str) -> str:
    selector = everything(f'Name="{name}"', f'State="{state}"')
    return or_zero(f"sum(ray_resources{selector})")


def _devices() -> list[Panel]:
    return [
        chart(
            "GPU use",
            "percent",
            to_dashboard("cost"),
            "How busy each GPU is. 0 without a GPU.",
            Query(or_zero(f"ray_node_gpus_utilization{_ALL}", "ip", "no"), _GPU),
        ),
        chart(
            "GPU memory",
            "bytes",
            runbook("GpuMemoryHigh"),
            "Memory in use of each GPU. 0 without a GPU.",
            # Ray counts it in MiB.
            Query(or_zero(f"ray_node_gram_used{_ALL} * 1048576", "ip", "no"), _GPU),
        ),
        chart(
            "GPUs reserved",
            "short",
            runbook("WorkersPending"),
            "GPUs that replicas reserve, and those that no one does. 0 without a GPU.",
            Query(_resource("GPU", "USED"), "reserved"),
            Query(_resource("GPU", "AVAILABLE"), "free"),
            look="stacked",
        ),
        chart(
            "Object store",
            "bytes",
            runbook("ControlPlaneMemoryGrows"),
            "Memory of Ray's object store by place. Requests do not go through it; members of"
            " pipelines with `placement: deployment` do.",
            Query(
                or_zero(f"sum by (Location) (ray_object_store_memory{_ALL})", "Location", "none"),
                "{{Location}}",
            ),
        ),
    ]
