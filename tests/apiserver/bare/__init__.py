"""A real API server with nothing behind it but etcd: on loopback, without root, up in seconds."""

from bare.server import BareApiServer, NotBuiltError, bare_api_server
from bare.waiting import eventually

__all__ = ["BareApiServer", "NotBuiltError", "bare_api_server", "eventually"]
