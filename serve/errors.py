"""Errors a caller can receive, and the canonical code each one carries.

    ServeError
    ├── InvalidRequest      INVALID_ARGUMENT     the request cannot be understood or does not fit
    │   └── BodyTooLarge    INVALID_ARGUMENT     more bytes than the model accepts (HTTP 413)
    ├── Unsupported         UNIMPLEMENTED        a content encoding or feature that is not supported
    ├── ModelNotFound       NOT_FOUND            no such model, version or label
    ├── AccessRefused       PERMISSION_DENIED    an API key is missing, not known, or opens less
    ├── QueueFull           RESOURCE_EXHAUSTED   too many requests wait already
    ├── OverQuota           RESOURCE_EXHAUSTED   the tenant has no rows or seconds left
    ├── CountsAway          UNAVAILABLE          what a tenant has left cannot be counted
    ├── ModelNotReady       UNAVAILABLE          loading, or no version could be loaded
    ├── DeadlineExceeded    DEADLINE_EXCEEDED    the request's time is up
    ├── InferenceFailed     INTERNAL             the model raised
    │   └── RowsMixed       INTERNAL             a batch came back without its rows
    ├── ConfigError         FAILED_PRECONDITION  strata.yaml, at start-up or apply
    └── RepositoryError     FAILED_PRECONDITION  a version that cannot be read or loaded

The protocols turn a code into a status. Every class takes only a message: Ray pickles
exceptions between processes, and extra constructor arguments do not survive that.
"""

from enum import Enum


class Code(Enum):
    """Canonical gRPC status codes used here, with the HTTP status each one becomes."""

    INVALID_ARGUMENT = 400
    FAILED_PRECONDITION = 412
    NOT_FOUND = 404
    PERMISSION_DENIED = 403
    RESOURCE_EXHAUSTED = 429
    UNIMPLEMENTED = 501
    INTERNAL = 500
    UNAVAILABLE = 503
    DEADLINE_EXCEEDED = 504


class ServeError(Exception):
    """Base of everything that is reported to a caller; the message is the only argument."""

    code = Code.INTERNAL

    @property
    def http_status(self) -> int:
        return self.code.value


class InvalidRequest(ServeError):
    """The request is malformed, or its tensors do not fit the model's signature."""

    code = Code.INVALID_ARGUMENT


class BodyTooLarge(InvalidRequest):
    """The body is larger than the model's `max_body_bytes`, before or after decompression."""

    @property
    def http_status(self) -> int:
        return 413


class Unsupported(ServeError):
    """The request asks for something that the protocol allows and Strata does not support."""

    code = Code.UNIMPLEMENTED


class ModelNotFound(ServeError):
    """No served model, version or label has this name."""

    code = Code.NOT_FOUND


class AccessRefused(ServeError):
    """An API key is missing, not known, or does not open what was asked for."""

    code = Code.PERMISSION_DENIED


class QueueFull(ServeError):
    """The model's queue is full, or longer than it is worth; trying again later may work."""

    code = Code.RESOURCE_EXHAUSTED


class OverQuota(ServeError):
    """The tenant has too little left of a quota; when to come back is told beside the message."""

    code = Code.RESOURCE_EXHAUSTED


class CountsAway(ServeError):
    """What the tenant has left cannot be counted now, and the config has it refused for that."""

    code = Code.UNAVAILABLE


class ModelNotReady(ServeError):
    """The model exists, and none of its versions can answer at this moment."""

    code = Code.UNAVAILABLE


class DeadlineExceeded(ServeError):
    """The response would come after the request's deadline."""

    code = Code.DEADLINE_EXCEEDED


class InferenceFailed(ServeError):
    """The model raised while computing; the cause is chained for the log, not for the client."""

    code = Code.INTERNAL


class RowsMixed(InferenceFailed):
    """A batch's outputs do not have a row for each of its rows; they are to be computed apart."""


class ConfigError(ServeError):
    """The configuration is wrong; the message names the path of the key."""

    code = Code.FAILED_PRECONDITION


class RepositoryError(ServeError):
    """A model version cannot be read, verified or loaded; the message names the file."""

    code = Code.FAILED_PRECONDITION
