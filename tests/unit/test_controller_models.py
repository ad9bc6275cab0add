"""Models that the catalogue lacks, on a cluster: who is asked for them, how often, and what becomes of a Workspace."""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from answering import COMMIT, SMALL_LLAMA, AnsweringServer, answering_server, listing
from kairay.controller import models
from kairay.controller.models import FACTS_LAST, REFUSAL_LASTS, ModelLookUp, look_up_model
from kairay.controller.settings import ModelSettings, Settings, read_settings
from kairay.errors import HostError, InputError, KairayError, TransientError
from kairay.presets import Preset, SourceKind, find_preset
from kairay.registry.model_files import read_hub
from kairay.registry.resolve import preset_of

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SOME = find_preset("phi-4")


class Oracle:
    """Gives the answers that it was told, the last one for ever, and counts how often it was asked."""

    def __init__(self, *answers: Preset | KairayError) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, name: str) -> Preset:
        self.asked.append(name)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, KairayError):
            raise answer
        return answer


def ask(look_up: ModelLookUp, *times: datetime, name: str = "org/model") -> list[Preset | str]:
    """One after the other: a preset, or the error's kind and sentence."""

    async def each() -> list[Preset | str]:
        said: list[Preset | str] = []
        for now in times:
            try:
                said.append(await look_up.preset(name, now))
            except KairayError as error:
                said.append(f"{type(error).__name__}: {error}")
        return said

    return asyncio.run(each())


def after(**much: float) -> datetime:
    return NOW + timedelta(**much)


def test_the_catalogues_models_ask_nobody() -> None:
    oracle = Oracle(SOME)
    for name in ("phi-4", "microsoft/phi-4", "Microsoft/Phi-4"):
        assert ask(ModelLookUp(oracle), NOW, name=name) == [SOME]
    said = ask(ModelLookUp(oracle), NOW, name="phi-33")
    assert "there is no preset 'phi-33'" in str(said)
    assert oracle.asked == []


def test_facts_are_asked_for_once_a_day() -> None:
    oracle = Oracle(SOME)
    assert ask(ModelLookUp(oracle), NOW, after(hours=23), after(hours=25), after(hours=26)) == [SOME] * 4
    assert len(oracle.asked) == 2


def test_a_crowd_of_workspaces_that_name_one_model_asks_once() -> None:
    oracle, gate = Oracle(SOME), threading.Event()

    def slowly(name: str) -> Preset:
        assert gate.wait(10)
        return oracle(name)

    async def crowd() -> list[Preset]:
        look_up = ModelLookUp(slowly)
        waiting = [asyncio.ensure_future(look_up.preset("org/model", NOW)) for _ in range(50)]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*waiting)

    assert asyncio.run(crowd()) == [SOME] * 50
    assert len(oracle.asked) == 1


def test_a_refusal_is_remembered_for_a_minute_and_then_looked_at_again() -> None:
    oracle = Oracle(InputError("accept its licence"), SOME)
    first, second, third = ask(ModelLookUp(oracle), NOW, after(seconds=50), after(seconds=61))
    assert first == second == "InputError: accept its licence"
    assert third == SOME
    assert len(oracle.asked) == 2


def test_while_the_hub_is_away_what_was_known_counts_on() -> None:
    away = TransientError("the hub cannot be reached")
    oracle = Oracle(SOME, away, away, SOME)
    times = (NOW, after(hours=25), after(hours=25, seconds=5), after(hours=26), after(hours=27))
    assert ask(ModelLookUp(oracle), *times) == [SOME] * 5
    assert len(oracle.asked) == 4


def test_while_the_hub_is_away_and_nothing_was_known_many_ask_seldom() -> None:
    oracle = Oracle(TransientError("the hub cannot be reached"), SOME)
    said = ask(ModelLookUp(oracle), NOW, after(seconds=9), after(seconds=11))
    assert said == ["TransientError: the hub cannot be reached"] * 2 + [SOME]
    assert len(oracle.asked) == 2


def test_what_only_the_operator_can_mend_is_a_refusal_that_is_tried_again() -> None:
    look_up = ModelLookUp(Oracle(HostError("no certificate", reason="RegistryUntrusted")))
    assert ask(look_up, NOW) == ["InputError: no certificate"]


async def answered(look_up: ModelLookUp, name: str, now: datetime) -> Preset | str:
    """What comes of it once it is not being looked up any more."""
    while True:
        try:
            return await look_up.preset(name, now)
        except TransientError as error:
            if "is being looked up" not in error.message:
                return error.message


def test_a_server_that_never_answers_holds_up_its_own_model_only() -> None:
    gate = threading.Event()

    def hang(name: str) -> Preset:
        if name.startswith("slow/"):
            assert gate.wait(10)
        return SOME

    async def passes() -> list[Preset | str]:
        look_up = ModelLookUp(hang, patience=0.01)
        for _ in range(2):
            with pytest.raises(TransientError, match="slow/model is being looked up"):
                await look_up.preset("slow/model", NOW)
        quick = await answered(look_up, "quick/model", NOW)
        gate.set()
        return [quick, await answered(look_up, "slow/model", NOW)]

    assert asyncio.run(passes()) == [SOME, SOME]


def test_what_was_said_before_is_said_until_the_new_answer_is_there() -> None:
    gate, oracle = threading.Event(), Oracle(TransientError("the hub cannot be reached"), SOME)

    def second_one_hangs(name: str) -> Preset:
        assert not oracle.asked or gate.wait(10)
        return oracle(name)

    look_up = ModelLookUp(second_one_hangs, patience=0.01)

    async def passes() -> list[Preset | str]:
        said = [await answered(look_up, "org/model", NOW)]
        for now in (after(minutes=1), after(minutes=2)):
            with pytest.raises(TransientError) as caught:
                await look_up.preset("org/model", now)
            said.append(caught.value.message)
        gate.set()
        return said

    assert set(asyncio.run(passes())) == {"the hub cannot be reached"}


def test_few_models_are_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_MOST_KEPT", 2)
    oracle = Oracle(SOME)
    look_up = ModelLookUp(oracle)
    for name in ("org/a", "org/b", "org/c", "org/c", "org/a"):
        ask(look_up, NOW, name=name)
    assert oracle.asked == ["org/a", "org/b", "org/c", "org/a"]


def test_a_kept_error_holds_on_to_nothing_that_was_read() -> None:
    look_up = ModelLookUp(Oracle(InputError("no")))
    for _ in range(3):
        with pytest.raises(InputError) as caught:
            asyncio.run(look_up.preset("org/model", NOW))
        frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
        assert "__call__" not in frames, "where it was raised first"
        assert caught.value.__context__ is None


# -- who is asked ----------------------------------------------------------------------------------------------------


def refusal(name: str, settings: ModelSettings | None = None) -> str:
    with pytest.raises(InputError) as caught:
        look_up_model(name, settings or ModelSettings(endpoint="http://127.0.0.1:9"), {})
    return caught.value.message


@pytest.mark.parametrize("name", ["/models/mine", "./mine", "../../etc", "~/mine", "oci:/models:v1"])
def test_a_folder_is_refused_with_what_to_do(name: str) -> None:
    assert f"{name} is a folder" in refusal(name)
    assert "oras push REGISTRY/NAME:TAG" in refusal(name)


def test_a_folder_of_the_controllers_own_is_never_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    (tmp_path / "org" / "model" / "config.json").write_text(json.dumps(SMALL_LLAMA))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TransientError, match="the hub cannot be reached for org/model"):
        look_up_model("org/model", ModelSettings(endpoint="http://127.0.0.1:9"), {"HF_HOME": str(tmp_path)})


def test_without_a_hub_a_hub_id_is_refused_with_the_ways_out() -> None:
    said = refusal("org/model", ModelSettings(hub=False))
    assert "models.hub" in said
    assert "REGISTRY/NAME:TAG" in said


@pytest.mark.parametrize(
    "name", ["registry.internal:5000/a/b:1", "169.254.169.254/a/b", "localhost/a/b", "user.name/model"]
)
def test_a_registry_that_is_not_listed_is_never_asked(name: str) -> None:
    assert "models.registries" in refusal(name)


@pytest.mark.parametrize("name", ["a/b/c", "a b/c", "org/", "me@host/x", "org/../x"])
def test_what_is_no_name_of_anything_is_an_unknown_preset(name: str) -> None:
    assert "there is no preset" in refusal(name)


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    with answering_server() as server:
        yield server


def test_the_operators_hub_is_asked_with_the_operators_token(server: AnsweringServer, tmp_path: Path) -> None:
    server.publish("org/model", SMALL_LLAMA, listing())
    preset = look_up_model(
        "org/model", ModelSettings(endpoint=server.url), {"HF_HOME": str(tmp_path), "HF_TOKEN": "secret\n"}
    )
    assert (preset.name, preset.model.weight_bytes, preset.model.revision) == ("org/model", 3000, COMMIT)
    assert preset.sources[0].kind is SourceKind.HUB
    assert server.tokens == ["Bearer secret"] * 2
    assert preset == preset_of(read_hub("org/model", server.environment(tmp_path))), "as `kairay plan` has it"


def test_an_artifact_of_a_listed_registry_is_looked_at_without_its_weights_or_a_disk(
    server: AnsweringServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/proc/nowhere")
    files = {"config.json": json.dumps(SMALL_LLAMA).encode(), "model.safetensors": bytes(1500)}
    reference = server.push("team/mine", "v1", files)
    preset = look_up_model(reference, ModelSettings(registries=frozenset({server.place})), {})
    assert (preset.name, preset.model.weight_bytes) == (reference, 1500)
    assert preset.sources[0].kind is SourceKind.IMAGE
    assert len(server.asked) == 2


def test_a_licence_that_is_not_accepted_names_the_operators_secret(server: AnsweringServer) -> None:
    server.publish("org/model", SMALL_LLAMA, listing())
    server.answers[f"/org/model/resolve/{COMMIT}/config.json"] = 403
    assert "secret kairay-hub" in refusal("org/model", ModelSettings(endpoint=server.url))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (b'{"a": "' + b"x" * (5 * 2**20) + b'"}', "more than 4194304 bytes"),
        (json.dumps({**SMALL_LLAMA, "num_hidden_layers": 10**9}).encode(), "more than any model has"),
        (json.dumps({**SMALL_LLAMA, "num_attention_heads": 10**30}).encode(), "num_attention_heads is 1000"),
        (json.dumps({**SMALL_LLAMA, "architectures": None}).encode(), "architectures is missing"),
        (json.dumps({**SMALL_LLAMA, "sliding_window": "x" * 500}).encode(), "sliding_window is"),
    ],
)
def test_a_config_that_would_keep_the_controller_busy_is_refused(
    server: AnsweringServer, config: bytes, said: str
) -> None:
    server.publish("org/model", SMALL_LLAMA, listing())
    server.answers[f"/org/model/resolve/{COMMIT}/config.json"] = config
    assert said in refusal("org/model", ModelSettings(endpoint=server.url))
    reference = server.push("team/mine", "v1", {"config.json": config, "model.safetensors": b"1"})
    assert said.split()[-1] in refusal(reference, ModelSettings(registries=frozenset({server.place})))


def test_a_config_of_brackets_without_end_is_no_config(server: AnsweringServer) -> None:
    server.publish("org/model", SMALL_LLAMA, listing())
    server.answers[f"/org/model/resolve/{COMMIT}/config.json"] = b"[" * 10**6
    with pytest.raises(TransientError, match="the hub cannot be reached"):
        look_up_model("org/model", ModelSettings(endpoint=server.url), {})
    reference = server.push("team/mine", "v1", {"config.json": b"[" * 10**6, "model.safetensors": b"1"})
    assert "not JSON" in refusal(reference, ModelSettings(registries=frozenset({server.place})))


# -- settings --------------------------------------------------------------------------------------------------------


def test_the_operator_says_who_is_asked() -> None:
    assert read_settings({}).models == ModelSettings()
    written = {
        "KAIRAY_MODEL_HUB": "false", "KAIRAY_MODEL_REGISTRIES": "Mine.azurecr.io, registry:5000,",
        "HF_ENDPOINT": "https://hub.example/mirror",
    }  # fmt: skip
    assert read_settings(written).models == ModelSettings(
        hub=False, registries=frozenset({"mine.azurecr.io", "registry:5000"}),
        endpoint="https://hub.example/mirror",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAIRAY_MODEL_REGISTRIES", "https://mine.azurecr.io"),
        ("KAIRAY_MODEL_REGISTRIES", "mine.azurecr.io/team"),
        ("KAIRAY_MODEL_HUB", "no"),
        ("HF_ENDPOINT", "hub.example"),
    ],
)
def test_a_setting_that_says_nothing_is_named(name: str, value: str) -> None:
    with pytest.raises(InputError, match=name):
        read_settings({name: value})


def test_pods_ask_the_same_hub() -> None:
    assert Settings().pods.environment == ()
    told = Settings(models=ModelSettings(endpoint="https://hub.example")).pods.environment
    assert told == (("HF_ENDPOINT", "https://hub.example"),)


def test_the_two_times_are_what_the_documents_say() -> None:
    assert (timedelta(days=1), timedelta(minutes=1)) == (FACTS_LAST, REFUSAL_LASTS)
