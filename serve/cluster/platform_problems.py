"""Problems before there are pods: namespace, operator, release, and pods that are refused.

Each function takes a snapshot and yields what it finds; diagnosis calls them all.
"""

import re
from collections.abc import Iterator

from serve.cluster.findings import Finding, Kind, finding
from serve.cluster.objects import (
    age_s,
    condition,
    event_messages,
    is_true,
    name_of,
    one_line,
    pod_state,
    release_of,
)
from serve.cluster.snapshot import Snapshot

_FIRST_STATUS_WITHIN_S = 30.0
_INSTALL_OPERATOR = "install KubeRay's operator (its chart kuberay-operator), or repair its pod"


def find_missing_namespace(snapshot: Snapshot) -> Iterator[Finding]:
    """The namespace is not there, so nothing in it can be."""
    if not snapshot.has_namespace:
        yield finding(
            Kind.NAMESPACE_MISSING,
            snapshot.namespace,
            f"there is no namespace '{snapshot.namespace}' in this cluster",
            "check --namespace and the kubeconfig's context, or install with --create-namespace",
        )


def find_missing_operator(snapshot: Snapshot) -> Iterator[Finding]:
    """KubeRay's CRD is missing, its pod is not ready, or it has given the release no status."""
    subject = "KubeRay's operator"
    pods = snapshot.operator_pods
    if not snapshot.has_crd:
        problem = "the cluster does not know RayServices: KubeRay is not installed"
        yield finding(Kind.OPERATOR_MISSING, subject, problem, _INSTALL_OPERATOR)
    elif pods and not any(is_true(pod, "Ready") for pod in pods):
        problem = f"the pod {name_of(pods[0])} is not ready: {pod_state(pods[0])}"
        yield finding(Kind.OPERATOR_MISSING, subject, problem, _INSTALL_OPERATOR)
    elif _is_without_status(snapshot):
        problem = "nobody has taken up the release's RayService"
        yield finding(Kind.OPERATOR_MISSING, subject, problem, _INSTALL_OPERATOR)


def _is_without_status(snapshot: Snapshot) -> bool:
    service = snapshot.service
    if not service or service.get("status", {}).get("conditions"):
        return False
    return age_s(service, snapshot.taken_at) > _FIRST_STATUS_WITHIN_S


def find_missing_release(snapshot: Snapshot) -> Iterator[Finding]:
    """No RayService is of this release; say which ones there are."""
    if snapshot.service or not snapshot.has_crd or not snapshot.has_namespace:
        return
    here = sorted(map(release_of, snapshot.ray_services))
    there = sorted(
        f"{release_of(item)} in {item['metadata']['namespace']}"
        for item in snapshot.elsewhere
        if item["metadata"]["namespace"] != snapshot.namespace
    )
    known = ", ".join(here) or "none"
    others = f"; elsewhere: {', '.join(there)}" if there else ""
    yield finding(
        Kind.RELEASE_MISSING,
        snapshot.release,
        f"namespace '{snapshot.namespace}' has no release '{snapshot.release}' "
        f"(there: {known}{others})",
        f"helm install {snapshot.release} helm/strata --namespace {snapshot.namespace}, "
        "or name one that is there",
    )


def find_invalid_release(snapshot: Snapshot) -> Iterator[Finding]:
    """KubeRay refuses the RayService or the RayCluster that it makes of it."""
    invalid = ("InvalidRayServiceSpec", "InvalidRayServiceMetadata")
    messages = event_messages(snapshot.events, snapshot.service, *invalid)
    for cluster in snapshot.clusters:
        reasons = ("InvalidRayClusterSpec", "InvalidRayClusterMetadata", "InvalidRayClusterStatus")
        messages += event_messages(snapshot.events, cluster, *reasons)
    failed = condition(snapshot.service, "Ready")
    if failed.get("reason") == "ValidationFailed":
        messages.append(failed["message"])
    if messages and not snapshot.is_ready:
        yield finding(
            Kind.INVALID_RELEASE,
            name_of(snapshot.service),
            f"KubeRay refuses the release: {one_line(messages[-1])}",
            "correct the values that it names and helm upgrade; the chart and KubeRay may not fit",
        )


def find_refused_pods(snapshot: Snapshot) -> Iterator[Finding]:
    """The API server refuses the pods that KubeRay would make."""
    for cluster in snapshot.clusters:
        failure = condition(cluster, "ReplicaFailure")
        if failure.get("status") == "True":
            yield _refusal(name_of(cluster), failure.get("message", ""))
        elif not snapshot.pods:
            reason = "AutoscalerServiceAccountNotFound"  # has no condition of its own
            for message in event_messages(snapshot.events, cluster, reason)[-1:]:
                yield _refusal(name_of(cluster), message)


def _refusal(subject: str, message: str) -> Finding:
    said = one_line(message.split("\n", 1)[-1])
    if "exceeded quota" in said:
        quota = _after("exceeded quota: ", said)
        remedy = "ask for a larger quota, or lower resources and maxReplicas in the values"
        problem = f"the namespace's quota does not allow the pods: {quota}"
        return finding(Kind.QUOTA_EXCEEDED, subject, problem, remedy)
    if "violates PodSecurity" in said:
        rules = _after("violates PodSecurity ", said)
        remedy = "set podSecurityContext and securityContext back to the chart's, which fit it"
        problem = f"the namespace's Pod Security forbids the pods: {rules}"
        return finding(Kind.POD_SECURITY, subject, problem, remedy)
    remedy = "correct what it names: a service account, a limit range or a webhook"
    return finding(Kind.PODS_REFUSED, subject, f"pods are refused: {said}", remedy)


def _after(words: str, text: str) -> str:
    return re.split(re.escape(words), text, maxsplit=1)[-1]


def find_initializing_timeout(snapshot: Snapshot) -> Iterator[Finding]:
    """KubeRay has given the release up: it will not try again."""
    ready = condition(snapshot.service, "Ready")
    if ready.get("reason") == "InitializingTimeout":
        yield finding(
            Kind.INITIALIZING_TIMEOUT,
            name_of(snapshot.service),
            f"KubeRay gave the release up: {one_line(ready.get('message', ''))}",
            "remove what held it up, then helm uninstall and install: it is not tried again",
        )
