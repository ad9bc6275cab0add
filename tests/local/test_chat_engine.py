"""The transformers engine's parts on a tiny random model: merging, drawing, batching, dying."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = [pytest.mark.local, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

torch = pytest.importorskip("torch")


@pytest.fixture
def base() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    from kairay_serve.sampling import SamplingDefaults
    from kairay_serve.weights import LoadedModel

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        tie_word_embeddings=True,
    )
    return LoadedModel(
        name="base",
        parent=None,
        model=LlamaForCausalLM(config).eval().requires_grad_(False),
        tokenizer=SimpleNamespace(eos_token_id=0),
        eos_token_ids=(0,),
        defaults=SamplingDefaults(),
    )


def write_adapter(base: Any, folder: Path, **more: Any) -> Any:
    """A random adapter in `folder`, and a model of its own that has it applied on the fly."""
    import copy

    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=2,
        target_modules=["q_proj"],
        layers_to_transform=[1],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
        **more,
    )
    tuned = get_peft_model(copy.deepcopy(base.model), config)
    tuned.save_pretrained(folder)
    return tuned


def test_a_merged_adapter_equals_peft_and_shares_all_that_it_does_not_touch(
    base: Any, tmp_path: Path
) -> None:
    from kairay_serve.adapters import merge_adapter

    tuned = write_adapter(base, tmp_path)
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    merged = merge_adapter(base, tmp_path, name="tuned")
    ids = torch.arange(1, 9)[None]
    assert torch.allclose(merged.model(ids).logits, tuned(ids).logits, atol=1e-5)
    assert not torch.allclose(merged.model(ids).logits, base.model(ids).logits, atol=1e-3)
    after = base.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    own = [
        name
        for name, tensor in merged.model.state_dict().items()
        if tensor.data_ptr() != after[name].data_ptr()
    ]
    assert own == ["model.layers.1.self_attn.q_proj.weight"]
    assert merged.model.get_input_embeddings().weight is merged.model.get_output_embeddings().weight


def test_an_adapter_for_another_model_is_refused_in_one_sentence(base: Any, tmp_path: Path) -> None:
    from kairay.errors import InputError
    from kairay_serve.adapters import merge_adapter

    write_adapter(base, tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text("utf-8").replace("q_proj", "no_such_module"), "utf-8")
    with pytest.raises(InputError, match="the adapter tuned in"):
        merge_adapter(base, tmp_path, name="tuned")


def test_packed_layers_give_the_same_logits_and_are_shared_between_models(base: Any, tmp_path: Path) -> None:
    from kairay_serve.adapters import merge_adapter
    from kairay_serve.packing import PackedLinear, can_pack, pack_linears

    if not can_pack(torch.float32):
        pytest.skip("this machine's torch has no packed linear layers")
    write_adapter(base, tmp_path)
    merged = merge_adapter(base, tmp_path, name="tuned")
    ids = torch.arange(1, 9)[None]
    expected = [base.model(ids).logits, merged.model(ids).logits]
    # 7 matrices a layer and the head, and the one that the adapter changed.
    assert pack_linears([base.model, merged.model]) == 2 * 7 + 1 + 1
    assert torch.allclose(base.model(ids).logits, expected[0], atol=1e-5)
    assert torch.allclose(merged.model(ids).logits, expected[1], atol=1e-5)
    assert isinstance(base.model.lm_head, PackedLinear)
    assert base.model.lm_head is merged.model.lm_head


def test_draws_follow_the_softmax_within_top_k_and_top_p() -> None:
    from kairay_serve.sampler import drawn
    from kairay_serve.sampling import Sampling

    scores = torch.tensor([2.0, 1.0, 0.0, -1.0])
    generator = torch.Generator().manual_seed(1)

    def shares(**settings: Any) -> list[float]:
        sampling = Sampling(max_tokens=1, **settings)
        tokens = [int(drawn(scores.clone(), sampling, generator).argmax()) for _ in range(4000)]
        return [tokens.count(token) / len(tokens) for token in range(4)]

    assert shares(temperature=1.0) == pytest.approx(scores.softmax(0).tolist(), abs=0.03)
    assert shares(temperature=0.5) == pytest.approx((scores * 2).softmax(0).tolist(), abs=0.03)
    assert shares(temperature=1.0, top_k=2) == pytest.approx(
        [*scores[:2].softmax(0).tolist(), 0, 0], abs=0.03
    )
    # 0.64 of the mass is the first token's, so half of it is reached with that one alone.
    assert shares(temperature=1.0, top_p=0.5) == [1, 0, 0, 0]
    assert shares(temperature=1.0, top_p=0.7)[2:] == [0, 0]


def test_the_repetition_penalty_is_the_one_of_generate() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    from kairay_serve.sampler import penalised

    scores, seen = torch.tensor([1.0, -1.0, 2.0, 0.5]), torch.tensor([0, 1, 1])
    expected = RepetitionPenaltyLogitsProcessor(1.3)(seen[None], scores[None].clone())[0]
    assert torch.allclose(penalised(scores, seen, 1.3), expected)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (None, "it has no readable adapter_config.json"),
        ("[]", "no readable"),
        ('{"peft_type": "IA3"}', "only LORA"),
    ],
)
def test_what_is_no_lora_adapter_is_said(tmp_path: Path, config: str | None, sentence: str) -> None:
    from kairay.errors import InputError
    from kairay_serve.sources import adapter_folder

    if config is not None:
        (tmp_path / "adapter_config.json").write_text(config, "utf-8")
    with pytest.raises(InputError, match=sentence):
        adapter_folder(str(tmp_path), tmp_path / "scratch")


def test_the_builder_is_typed_for_serve_and_sets_the_limits() -> None:
    import inspect

    from kairay_serve.args import ChatArgs
    from kairay_serve.chat import build

    # Serve validates args by this annotation, which must be the class itself and no string.
    assert inspect.signature(build).parameters["args"].annotation is ChatArgs
    names = {"name": "a", "preset": "p", "modelName": "m", "defaultModel": "m"}
    sizes = {"contextLength": 1, "kvCacheBytes": 1, "maxOngoingRequests": 3, "maxQueuedRequests": 5}
    deployment = build(ChatArgs.model_validate({**names, **sizes}))._bound_deployment
    assert deployment.name == "Chat"
    assert deployment.max_ongoing_requests > 3 + 5


def shape(requests: int = 4) -> Any:
    from kairay_serve.batching import CacheShape

    return CacheShape(pages=32, page_tokens=8, batch_tokens=64, requests=requests)


async def generated(batcher: Any, prompt: list[int], **settings: Any) -> list[int]:
    from kairay_serve.sampling import Sampling

    return [token async for step in batcher.generate(prompt, Sampling(**settings)) for token in step]


def test_a_batch_of_mixed_settings_gives_each_request_its_own_answer(base: Any) -> None:
    from kairay_serve.batching import Batcher

    prompt = [5, 6, 7]
    expected = base.model.generate(torch.tensor([prompt]), max_new_tokens=6, do_sample=False, eos_token_id=0)

    async def scene() -> list[list[int]]:
        batcher = Batcher(base, shape())
        batcher.start()
        try:
            return list(
                await asyncio.gather(
                    generated(batcher, prompt, max_tokens=6),
                    generated(batcher, prompt, max_tokens=6, temperature=5.0, seed=3),
                    generated(batcher, [9, 9], max_tokens=4, temperature=1.0),
                    generated(batcher, prompt, max_tokens=6, temperature=5.0, seed=3),
                )
            )
        finally:
            await asyncio.to_thread(batcher.stop)

    greedy, sampled, _, again = asyncio.run(scene())
    assert greedy == expected[0, 3:].tolist()
    assert sampled == again != greedy


def test_leaving_an_answer_early_leaves_nothing_behind(base: Any) -> None:
    from kairay_serve.batching import Batcher
    from kairay_serve.sampling import Sampling

    async def scene() -> tuple[int, list[int]]:
        batcher = Batcher(base, shape())
        batcher.start()
        try:
            steps = batcher.generate([5, 6, 7], Sampling(max_tokens=100))
            await anext(steps)
            await steps.aclose()
            # A second answer passes through the same loop after the cancellation was seen.
            answer = await generated(batcher, [5, 6, 7], max_tokens=3)
            manager = batcher._manager
            active = len(manager.batch_processor.scheduler.active_requests)
            return active + len(manager.output_router.result_handlers), answer
        finally:
            await asyncio.to_thread(batcher.stop)

    left, answer = asyncio.run(scene())
    assert left == 0
    assert answer


def test_a_model_that_breaks_is_a_fault_and_every_request_gets_503(base: Any) -> None:
    from kairay_serve.api_errors import ApiError
    from kairay_serve.batching import Batcher

    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise MemoryError("no room")

    async def scene() -> tuple[str | None, list[int]]:
        batcher = Batcher(base, shape())
        base.model.forward = broken
        batcher.start()
        statuses = []
        for _ in "ab":
            with pytest.raises(ApiError) as refused:
                await generated(batcher, [5, 6], max_tokens=3)
            statuses.append(refused.value.status)
        await asyncio.to_thread(batcher._manager._generation_thread.join)
        return batcher.fault(), statuses

    fault, statuses = asyncio.run(scene())
    assert fault == "the engine of base died: MemoryError: no room"
    assert statuses == [503, 503]


def test_a_cache_that_cannot_hold_one_context_is_refused(base: Any) -> None:
    from kairay.errors import InputError
    from kairay_serve.batching import cache_shape

    settings = {"bytes_per_element": 4, "requests": 4, "page_tokens": 8}
    token_bytes = 2 * 2 * 1 * 8 * 4
    assert (
        cache_shape(base.model.config, kv_cache_bytes=token_bytes * 64, context_length=64, **settings).pages
        == 8
    )
    with pytest.raises(InputError, match=f"a context of 65 needs {token_bytes * 72}: give more"):
        cache_shape(base.model.config, kv_cache_bytes=token_bytes * 64, context_length=65, **settings)
