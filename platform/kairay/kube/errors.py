"""What the API server's refusals become (kairay.errors is the tree).

TransientError      429, 5xx, no connection: the same call later
├── ConflictError   409: another wrote first or it is another object of that name; read again, decide again
└── GoneError       410: the watch's resourceVersion is forgotten; list again
InputError          400, 422: what we send must change
AbsentError         404: the object (or its namespace, or its kind) is not there
HostError           401: these credentials are not accepted
DeniedError         400, 403, 422 by a rule of the cluster: a quota, a limit, a policy, a webhook
KairayError         403 for want of a right, and the rest; 403's sentence names the missing verb and resource
"""

from __future__ import annotations

from kairay.errors import KairayError, TransientError


class ConflictError(TransientError):
    """The object is not what the caller last saw; read it again and decide again."""

    reason = "Conflict"


class GoneError(TransientError):
    """The API server forgot the resourceVersion; list again."""

    reason = "Gone"


class DeniedError(KairayError):
    """A rule of the cluster does not let the object be: a quota, a LimitRange, a policy, a webhook, a namespace
    that goes."""

    reason = "Denied"


class AbsentError(KairayError):
    """There is no such object to write to, or no such namespace or kind."""

    reason = "NotFound"
