"""What doctor says: one thing that is wrong, in a sentence, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

_MOST_REMEDIES = 3


class Kind(StrEnum):
    """Every kind of finding; docs/operations.md has a row for each."""

    NAMESPACE_MISSING = "namespace-missing"
    OPERATOR_MISSING = "operator-missing"
    RELEASE_MISSING = "release-missing"
    INVALID_RELEASE = "invalid-release"
    QUOTA_EXCEEDED = "quota-exceeded"
    POD_SECURITY = "pod-security"
    PODS_REFUSED = "pods-refused"
    INITIALIZING_TIMEOUT = "initializing-timeout"
    IMAGE_PULL = "image-pull"
    NO_GPU = "no-gpu"
    NO_CPU = "no-cpu"
    NO_MEMORY = "no-memory"
    NO_NODE = "no-node"
    MISSING_SECRET = "missing-secret"
    MISSING_CONFIG_MAP = "missing-config-map"
    MISSING_VOLUME = "missing-volume"
    VOLUME_UNBOUND = "volume-unbound"
    CANNOT_START = "cannot-start"
    OUT_OF_MEMORY = "out-of-memory"
    CRASH = "crash"
    EVICTED = "evicted"
    PROBE_FAILED = "probe-failed"
    REDIS_UNREACHABLE = "redis-unreachable"
    HEAD_UNREACHABLE = "head-unreachable"
    CONFIG_REFUSED = "config-refused"
    WRONG_KEY = "wrong-key"
    MODEL_NOT_LOADED = "model-not-loaded"
    MODEL_UNHEALTHY = "model-unhealthy"
    NO_ROOM_FOR_REPLICAS = "no-room-for-replicas"
    MODEL_DEPLOYING = "model-deploying"
    VERSION_NOT_SERVED = "version-not-served"
    STARTING = "starting"


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of some subjects, such as pods or models."""

    kind: Kind
    subjects: tuple[str, ...]
    problem: str
    remedy: str


def finding(kind: Kind, subject: str, problem: str, remedy: str) -> Finding:
    return Finding(kind, (subject,), problem, remedy)


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings with those of one kind and problem merged.

    Subjects are listed once, and so are remedies, which may name what they are of: the first few.
    """
    alike: dict[tuple[Kind, str], list[Finding]] = {}
    for each in findings:
        alike.setdefault((each.kind, each.problem), []).append(each)
    return [_merged(group) for group in alike.values()]


def _merged(group: list[Finding]) -> Finding:
    subjects = tuple(dict.fromkeys(name for each in group for name in each.subjects))
    remedies = list(dict.fromkeys(each.remedy for each in group))
    more = len(remedies) - _MOST_REMEDIES
    shown = [*remedies[:_MOST_REMEDIES], *([f"and {more} more like it"] if more > 0 else [])]
    return replace(group[0], subjects=subjects, remedy="; ".join(shown))
