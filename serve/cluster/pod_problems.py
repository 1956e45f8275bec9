"""Problems of pods that cannot be placed or supplied: image, room on nodes, volumes, Secrets.

Each function takes a snapshot and yields what it finds; diagnosis calls them all.
Only pods that are there now count: events tell why, never that something is wrong.
"""

import re
from collections.abc import Iterator

from serve.cluster.findings import Finding, Kind, finding
from serve.cluster.objects import (
    Container,
    Object,
    condition,
    containers,
    event_messages,
    is_true,
    name_of,
    one_line,
    phase,
)
from serve.cluster.snapshot import Snapshot

_PULL_REASONS = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
_QUOTED = re.compile(r'"([^"]+)"')
_CLAIM_MISSING = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
_UNBOUND = "unbound immediate PersistentVolumeClaims"


def find_image_pull(snapshot: Snapshot) -> Iterator[Finding]:
    """An image is not on the node and cannot be fetched."""
    for pod in snapshot.pods:
        for container in containers(pod):
            if container.waiting.get("reason") in _PULL_REASONS:
                yield _image_pull(snapshot, pod, container)


def _image_pull(snapshot: Snapshot, pod: Object, container: Container) -> Finding:
    failed = [
        message
        for message in event_messages(snapshot.events, pod, "Failed")
        if container.image in message
    ]
    said = failed[-1] if failed else str(container.waiting.get("message", ""))
    why = ": ".join(said.rsplit(": ", 2)[-2:]) or container.waiting["reason"]  # the innermost
    return finding(
        Kind.IMAGE_PULL,
        name_of(pod),
        f"the image {container.image} cannot be pulled: {one_line(why)}",
        "check image.repository and image.tag, that the registry is reachable, and "
        "imagePullSecrets if it is private",
    )


def find_unschedulable(snapshot: Snapshot) -> Iterator[Finding]:
    """No node has room, or none may take the pod."""
    for pod in snapshot.pods:
        scheduled = condition(pod, "PodScheduled")
        if phase(pod) == "Pending" and scheduled.get("reason") == "Unschedulable":
            message = str(scheduled.get("message", ""))
            if not _CLAIM_MISSING.search(message) and _UNBOUND not in message:
                yield _unschedulable(pod, message)


def _unschedulable(pod: Object, message: str) -> Finding:
    said = one_line(re.split(r" no new claims| preemption:", message, maxsplit=1)[0])
    gpu = re.search(r"Insufficient ((?!cpu|memory|ephemeral)\S+[^.,\s])", message)
    if gpu:
        problem = f"no node has a free {gpu[1]}: {said}"
        remedy = "add a GPU node or free one; check gpuResource, the device plugin and tolerations"
        return finding(Kind.NO_GPU, name_of(pod), problem, remedy)
    for word, kind in (("memory", Kind.NO_MEMORY), ("cpu", Kind.NO_CPU)):
        if f"Insufficient {word}" in message:
            asked = _requested(pod, word)
            problem = f"no node has {asked} {word} free: {said}"
            remedy = f"add a node, or lower resources.requests.{word} of this group in the values"
            return finding(kind, name_of(pod), problem, remedy)
    remedy = "make nodeSelector, tolerations, affinity and the volume's access mode fit a node"
    return finding(Kind.NO_NODE, name_of(pod), f"no node may take the pod: {said}", remedy)


def _requested(pod: Object, resource: str) -> str:
    """Return the first request for a resource among the pod's containers, such as 400Gi."""
    requests = [
        str(spec.get("resources", {}).get("requests", {}).get(resource, ""))
        for spec in pod.get("spec", {}).get("containers", ())
    ]
    return next((amount for amount in requests if amount), "the")


def find_missing_volumes(snapshot: Snapshot) -> Iterator[Finding]:
    """A claim that pods mount is not there, or has no volume."""
    claims = {name_of(claim): claim for claim in snapshot.claims}
    for pod in snapshot.pods:
        if phase(pod) != "Pending":
            continue
        message = str(condition(pod, "PodScheduled").get("message", ""))
        missing = _CLAIM_MISSING.search(message)
        if missing:
            yield finding(
                Kind.MISSING_VOLUME,
                name_of(pod),
                f"the PersistentVolumeClaim '{missing[1]}' does not exist",
                "create it, or correct storage.existingClaim or extraVolumes in the values",
            )
        for name in _claims_of(pod):
            if _is_unbound(claims.get(name, {}), message):
                yield _unbound(snapshot, claims[name])


def _claims_of(pod: Object) -> Iterator[str]:
    for volume in pod.get("spec", {}).get("volumes", ()):
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"]["claimName"]


def _is_unbound(claim: Object, scheduling: str) -> bool:
    """Tell whether a claim waits for a volume rather than for its first pod."""
    if not claim or claim.get("status", {}).get("phase") == "Bound":
        return False
    return claim.get("status", {}).get("phase") == "Lost" or "ersistent" in scheduling


def _unbound(snapshot: Snapshot, claim: Object) -> Finding:
    reasons = ("ProvisioningFailed", "FailedBinding", "ExternalProvisioning")
    said = event_messages(snapshot.events, claim, *reasons)
    storage_class = claim.get("spec", {}).get("storageClassName", "")
    return finding(
        Kind.VOLUME_UNBOUND,
        name_of(claim),
        f"the claim has no volume: {one_line(said[-1] if said else 'none was found for it')}",
        f"check that the storage class '{storage_class}' exists and can make "
        f"{', '.join(claim.get('spec', {}).get('accessModes', ()))} volumes",
    )


def find_missing_references(snapshot: Snapshot) -> Iterator[Finding]:
    """A Secret or ConfigMap, or a key in one, is not there."""
    for pod in snapshot.pods:
        for container in containers(pod):
            if container.waiting.get("reason") == "CreateContainerConfigError":
                yield _missing(pod, str(container.waiting.get("message", "")))
        if phase(pod) == "Pending" and not is_true(pod, "PodReadyToStartContainers"):
            for message in event_messages(snapshot.events, pod, "FailedMount")[-1:]:
                yield _missing(pod, message)


def _missing(pod: Object, message: str) -> Finding:
    said = one_line(message.split(" : ", 1)[-1])
    is_secret = "secret" in said.lower()
    what, kind = ("Secret", Kind.MISSING_SECRET)
    if "configmap" in said.lower():
        what, kind = ("ConfigMap", Kind.MISSING_CONFIG_MAP)
    elif not is_secret:
        remedy = "correct extraVolumes, or what makes the volume reachable from the node"
        problem = f"a volume cannot be mounted: {said}"
        return finding(Kind.MISSING_VOLUME, name_of(pod), problem, remedy)
    quoted = _QUOTED.findall(said)
    which = f" '{quoted[-1]}'" if quoted else ""
    return finding(
        kind,
        name_of(pod),
        f"a {what} that the pod needs is missing: {said}",
        f"create the {what}{which} in the release's namespace, or correct its name in the values",
    )
