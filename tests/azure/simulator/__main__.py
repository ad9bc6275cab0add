"""`python -m simulator --port 0 --speed 60`: ARM on loopback until it is ended; its address is the first line."""

from __future__ import annotations

import argparse
import signal
import threading

from simulator.clock import Clock
from simulator.cloud import Cloud
from simulator.records import Names, Timings
from simulator.server import Simulator


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--speed", type=float, default=1.0, help="virtual seconds in a real one; 0: only /_control/advance"
    )
    parser.add_argument("--subscription", default=Names().subscription)
    parser.add_argument("--location", default=Names().location)
    for name, seconds in vars(Timings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}-seconds", type=float, default=seconds, dest=name)
    given = parser.parse_args()
    cloud = Cloud(
        clock=Clock(given.speed),
        names=Names(subscription=given.subscription, location=given.location),
        timings=Timings(**{name: getattr(given, name) for name in vars(Timings())}),
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Simulator(cloud, port=given.port) as simulator:
        print(simulator.url, flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
