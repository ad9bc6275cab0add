"""The plan as text: what a person reads, in 110 columns, the same for the same plan."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

import pytest

from kairay.plan import PlanTarget, make_plan
from kairay.plan_job import TrainingData
from kairay.plan_table import WIDTH, render_plan
from kairay.presets import find_preset, load_presets
from kairay.skus import MachineProbe, Sku, SkuKind, load_skus, local_machine
from kairay.workspace import parse_documents

GIB = 2**30
SEED = """
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata:
  name: workspace-tuning-phi-3
resource:
  instanceType: "{instance}"
  labelSelector:
    matchLabels:
      app: tuning-phi-3
tuning:
  preset:
    name: {preset}
  method: qlora
  input:
    urls:
      - "https://example.com/train.parquet?download=true"
  output:
    image: "example.azurecr.io/adapters/phi-3:0.0.1"
    imagePushSecret: registry
"""

RETIRED = """\
workspace-tuning-phi-3: tune phi-3-mini-128k-instruct by qlora, then serve it, on a cluster

chosen    nothing; see the problem below

memory of one GPU in GiB, with Standard_NC4as_T4_v3
           weights  KV cache  activations  adapter  optimiser  overhead  head-room    of
  tuning      2.11                   7.64     0.09       0.09      1.46       4.59  16.0
  serving     7.31      4.12         0.31                          1.70       2.56  16.0

instead of Standard_NC6s_v3:
  Standard_NC4as_T4_v3      1 × Tesla T4 16 GiB  $0.53 per hour  the cheapest that fits; as much memory
  Standard_NC16ads_A10_v4   1 × A10 24 GiB       $2.20 per hour  the next memory size up
  Standard_NC40ads_H100_v5  1 × H100 NVL 94 GiB  $6.98 per hour  Microsoft's recommendation
"""

LOCAL = """\
workspace-tuning-phi-3: tune smollm2-135m-instruct by qlora, then serve it, on this machine

chosen    this machine (2 cores, 16 GiB)
tuning    1 worker, 2 cores each; float32; rows of 512 tokens, 1 at once: 512 tokens a step
serving   transformers, float32, 1 replica; context of 8,192 tokens; 11 requests at once
"""


def test_a_retired_size_is_explained_with_prices() -> None:
    text = rendered(instance="Standard_NC6s_v3")
    assert text.startswith(RETIRED)
    assert "Standard_NC6s_v3 (1 × Tesla V100 16 GiB) was retired by Azure on 2025-09-30" in " ".join(
        text.split()
    )
    assert "prices: pay as you go in US dollars" in text


def test_a_run_on_this_machine_shows_its_shape() -> None:
    text = rendered(preset="smollm2-135m-instruct", target=PlanTarget.LOCAL)
    # The preset's tuning numbers are the demo's to change.
    assert without_tuning(text).startswith(without_tuning(LOCAL))
    assert "problem" not in text


def test_the_chosen_size_is_ticked_and_the_others_say_why_they_lost() -> None:
    lines = rendered(instance="Standard_NC4as_T4_v3").splitlines()
    (ticked,) = [line for line in lines if line.startswith("✓")]
    assert "Standard_NC4as_T4_v3" in ticked
    assert "0.53" in ticked
    assert "asked for, and fits" in ticked
    assert any("AMD GPU" in line for line in lines)
    assert any(line.strip().startswith("and ") and "more:" in line for line in lines)


def test_the_size_that_was_asked_for_is_always_in_the_table() -> None:
    lines = rendered(instance="Standard_ND96isr_H100_v5").splitlines()
    assert any(line.startswith("✓  Standard_ND96isr_H100_v5") for line in lines)


@pytest.mark.parametrize("target", list(PlanTarget))
@pytest.mark.parametrize("preset", sorted(load_presets()))
def test_no_line_is_wider_than_a_terminal_and_the_text_is_the_same_again(
    preset: str, target: PlanTarget
) -> None:
    for instance in ("Standard_NC6s_v3", "Standard_NC144lds_xl_RTXPRO6000BSE_v6", "Standard_Unheard_Of"):
        text = rendered(instance=instance, preset=preset, target=target)
        assert max(map(len, text.splitlines())) <= WIDTH
        assert text == rendered(instance=instance, preset=preset, target=target)
        assert not any(line != line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("preset", sorted(load_presets()))
def test_what_a_job_costs_and_what_fills_the_memory_stay_within_the_terminal_too(preset: str) -> None:
    data = TrainingData(tokens=123_456_789, epochs=3, basis="bytes and characters ÷ 4")
    for instance in ("", "Standard_NC144lds_xl_RTXPRO6000BSE_v6"):
        text = rendered(instance=instance, preset=preset, data=data, explain=True)
        assert max(map(len, text.splitlines())) <= WIDTH
        assert not any(line != line.rstrip() for line in text.splitlines())


def test_the_terms_of_a_device_add_up_to_it() -> None:
    tuning, serving = rendered(explain=True).partition("\ntuning on ")[2].split("\nserving on ")
    for block in (tuning, serving.partition("\n\n")[0]):
        rows = [line for line in block.splitlines()[1:] if "·" in line or "█" in line]
        sizes = [float(re.findall(r"\d+\.\d\d", row)[0]) for row in rows]
        assert len(rows) >= 5
        assert sum(sizes) == pytest.approx(16, abs=0.05)


def test_spot_prices_are_a_column_only_where_they_are_known() -> None:
    assert "$ spot" not in rendered()
    t4 = replace(load_skus()["Standard_NC4as_T4_v3"], spot_usd_per_hour=0.0912)
    text = rendered(skus={t4.name: t4})
    assert "$ spot" in text
    assert "0.09" in text


def test_wide_has_every_size_and_no_wrapped_line() -> None:
    text = rendered(wide=True)
    for sku in load_skus().values():
        assert (sku.name in text) == (sku.kind is SkuKind.AZURE), sku.name
    assert "400Gb/s x8" in text


def rendered(
    *,
    instance: str = "Standard_NC4as_T4_v3",
    preset: str = "phi-3-mini-128k-instruct",
    target: PlanTarget = PlanTarget.CLUSTER,
    skus: dict[str, Sku] | None = None,
    data: TrainingData | None = None,
    wide: bool = False,
    explain: bool = False,
) -> str:
    (workspace,) = parse_documents(SEED.format(instance=instance, preset=preset), "seed.yaml").workspaces
    machine = local_machine(MachineProbe(cores=2, ram_bytes=16 * GIB, available_bytes=12 * GIB))
    plan = make_plan(
        workspace,
        find_preset(preset),
        skus=skus or load_skus(),
        machine=machine,
        target=target,
        now=date(2026, 11, 24),
        data=data,
    )
    return render_plan(plan, wide=wide, explain=explain)


def without_tuning(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("tuning "))
