"""Where a tuning run on this machine's Ray is, asked from Ray's Prometheus endpoint."""

from __future__ import annotations

from kairay.errors import TransientError
from kairay.local.dashboard import Dashboard
from kairay.local.ray_instance import RayInstance
from kairay.ray.progress import TuningProgress, tuning_progress

SCRAPE_SECONDS = 5.0


def read_progress(ray: RayInstance, run: str) -> TuningProgress | None:
    """Where `run` is now; None while it reports nothing or the endpoint does not answer."""
    text = []
    for url in _endpoints(ray):
        try:
            answer = Dashboard(url, None).call("GET", "", timeout=SCRAPE_SECONDS)
        except TransientError:
            continue  # progress is for show: the job's own result is what counts
        text.append(answer.text if answer.ok else "")
    return tuning_progress("\n".join(text), run)


def _endpoints(ray: RayInstance) -> list[str]:
    if ray.metrics_url is not None:
        return [ray.metrics_url]
    try:
        answer = ray.dashboard.call("GET", "/api/prometheus/sd", timeout=SCRAPE_SECONDS)
        groups = answer.json() if answer.ok else []
    except TransientError:
        return []
    return [f"http://{target}/metrics" for group in groups for target in group.get("targets", [])]
