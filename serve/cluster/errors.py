"""Errors of operations on a cluster, by what they mean to the person at the keyboard.

    ClusterError
    ├── NoCluster            neither a kubeconfig nor the credentials of a pod
    ├── ClusterUnreachable   nothing answers at the API server's address
    ├── ClusterForbidden     the API server knows us and says no
    ├── ObjectNotFound       the API server has no such object or kind
    ├── ReleaseNotFound      no RayService belongs to a release of this name
    └── HelmFailed           helm is missing, or refused

Like all of serve.errors they take one argument, the message.
"""

from serve.errors import Code, ServeError


class ClusterError(ServeError):
    """Base of everything that goes wrong between us and a cluster."""

    code = Code.FAILED_PRECONDITION


class NoCluster(ClusterError):
    """There is no kubeconfig, or it names no cluster that could be asked."""


class ClusterUnreachable(ClusterError):
    """The API server does not answer, or answers that it cannot."""

    code = Code.UNAVAILABLE


class ClusterForbidden(ClusterError):
    """The credentials do not allow what was asked."""


class ObjectNotFound(ClusterError):
    """The API server has no object, or no kind, of this name."""

    code = Code.NOT_FOUND


class ReleaseNotFound(ClusterError):
    """No release of this name is in the namespace."""

    code = Code.NOT_FOUND


class HelmFailed(ClusterError):
    """Helm is not installed, or did not do what it was asked."""
