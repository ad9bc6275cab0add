"""The next step of a run, from what is there."""

from __future__ import annotations

from typing import Any

import pytest

from kairay.local.jobs import JobStatus
from kairay.local.serve import AppStatus
from kairay.local.steps import Observed, Step, next_step

TUNES = {"tunes": True, "serves": True}
KEPT = {**TUNES, "kept": True, "published": True}


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        ({"tunes": False, "serves": False}, Step.DONE),
        (TUNES, Step.START_RAY),
        ({**TUNES, "ray": True}, Step.TUNE),
        ({**TUNES, "ray": True, "job": JobStatus.RUNNING}, Step.WAIT_TUNE),
        ({**TUNES, "ray": True, "job": JobStatus.PENDING, "failed_before": True}, Step.WAIT_TUNE),
        ({**TUNES, "ray": True, "job": JobStatus.FAILED}, Step.TUNE),
        ({**TUNES, "ray": True, "job": JobStatus.FAILED, "awaited": True}, Step.WAIT_TUNE),
        ({**TUNES, "ray": True, "job": JobStatus.RUNNING, "published": True}, Step.WAIT_TUNE),
        ({**TUNES, "ray": True, "job": JobStatus.FAILED, "ended": True}, Step.FAIL_TUNE),
        ({**TUNES, "ray": True, "job": JobStatus.STOPPED, "ended": True}, Step.FAIL_TUNE),
        ({**TUNES, "ray": True, "job": JobStatus.SUCCEEDED, "ended": True}, Step.FAIL_TUNE),
        ({**TUNES, "failed_before": True}, Step.REFUSE),
        ({**TUNES, "kept": True, "failed_before": True}, Step.PUBLISH),
        ({**TUNES, "published": True}, Step.KEEP),
        (KEPT, Step.START_RAY),
        ({**KEPT, "serves": False}, Step.DONE),
        ({**KEPT, "ray": True}, Step.SERVE),
        ({**KEPT, "ray": True, "app": AppStatus.RUNNING}, Step.SERVE),
        ({**KEPT, "ray": True, "app": AppStatus.DEPLOYING, "app_is_current": True}, Step.WAIT_SERVE),
        ({**KEPT, "ray": True, "app": AppStatus.RUNNING, "app_is_current": True}, Step.WAIT_SERVE),
        ({**KEPT, "ray": True, "app": AppStatus.RUNNING, "app_is_current": True, "answers": True}, Step.DONE),
        ({**KEPT, "ray": True, "app": AppStatus.DEPLOY_FAILED, "app_is_current": True}, Step.SERVE),
        (
            {**KEPT, "ray": True, "app": AppStatus.DEPLOY_FAILED, "app_is_current": True, "deployed": True},
            Step.FAIL_SERVE,
        ),
        ({**KEPT, "ray": True, "app": AppStatus.UNHEALTHY, "app_is_current": True}, Step.WAIT_SERVE),
    ],
)
def test_the_next_step_follows_from_what_is_there(seen: dict[str, Any], step: Step) -> None:
    assert next_step(Observed(**seen)) is step
