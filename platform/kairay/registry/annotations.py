"""Annotations of an adapter's manifest that both its maker and its readers go by."""

from __future__ import annotations

REVISION = "dev.kairay.revision"
"""The revision of the request that the adapter answers."""
