"""The RayJob that tunes one revision. Pure.

HTTPMode: the operator gives the job to Ray itself. It is made once and never edited: a job in the middle of its
work does not change with a release of ours.
"""

from __future__ import annotations

from kairay.plan import Plan
from kairay.ray.pods import Manifest
from kairay.ray.train_job import entrypoint, job_id

CLUSTER_TTL = 600
"""Seconds that the head stays after the job, for its log and dashboard."""


def ray_job(
    plan: Plan, metadata: Manifest, cluster: Manifest, *, config: str, revision: str, attempt: int
) -> Manifest:
    """`metadata` as in Kubernetes; `config` is the file that the driver reads."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata,
        "spec": {
            "entrypoint": entrypoint(config),
            "jobId": job_id(plan.workspace, revision, attempt),
            "submissionMode": "HTTPMode",
            # The operator would also repeat a job whose data is wrong; another attempt is the controller's to start.
            "backoffLimit": 0,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": CLUSTER_TTL,
            "metadata": {
                "kairay.workspace": plan.workspace,
                "kairay.revision": revision,
                "kairay.preset": plan.preset,
            },
            "rayClusterSpec": cluster,
        },
    }
