"""Kairay runs KAITO Workspaces on Ray: the control side (types, plan, translation, local back end, command line)."""

__version__ = "0.1.0"
