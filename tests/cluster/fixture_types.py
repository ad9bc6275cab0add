"""What the fixtures of tests/cluster/conftest.py are, for whoever takes them."""

from __future__ import annotations

from collections.abc import Callable

Apply = Callable[[str], str]
"""`kubectl apply` of a text."""
Kubectl = Callable[..., str]
"""Its arguments one by one; what it printed."""
GpuNode = Callable[..., str]
"""The name of the node, and what it has."""
