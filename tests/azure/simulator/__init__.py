"""Azure Resource Manager for the agent pools of one AKS cluster, on loopback, with a clock that tests move.

Every request and every answer is checked against the OpenAPI description of 2026-08-01. See `Cloud` for what it
models and `Simulator` for how to run it; `python -m simulator` runs it alone.
"""

from simulator.clock import Clock
from simulator.cloud import Cloud
from simulator.faults import Fault
from simulator.nodes import node_manifest
from simulator.records import Names, Timings
from simulator.server import Simulator

__all__ = ["Clock", "Cloud", "Fault", "Names", "Simulator", "Timings", "node_manifest"]
