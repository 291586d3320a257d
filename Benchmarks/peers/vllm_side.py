"""vLLM on the CPU, in bfloat16: prefill, and decoding with LoRA adapters in one batch."""

import os
import time

import turns

kept = turns.quiet_output()
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

import vllm
from vllm import LLM, SamplingParams, TokensPrompt
from vllm.lora.request import LoRARequest


def main() -> None:
    parser = turns.options(__doc__)
    parser.add_argument("--vocabulary", type=int, required=True)
    parser.add_argument("--rank", type=int, default=16)
    given = parser.parse_args()
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{given.threads - 1}"
    most = max(work.numbers[0] if work.kind == "decode" else 1 for work in given.work)
    lora = {"enable_lora": True, "max_loras": len(given.adapters), "max_lora_rank": given.rank} if given.adapters else {}
    model = LLM(
        given.model, dtype="bfloat16", max_model_len=1024, max_num_seqs=max(most, 2), max_num_batched_tokens=2048,
        enable_prefix_caching=False, skip_tokenizer_init=True, **lora,
    )  # fmt: skip
    requests = [LoRARequest(f"a{index}", index + 1, folder) for index, folder in enumerate(given.adapters)]
    prompts = turns.Prompts(given.vocabulary)

    def answer(streams: int, prompt: int, tokens: int, adapters: int) -> float:
        sampling = SamplingParams(temperature=0, max_tokens=tokens, min_tokens=tokens, ignore_eos=True, detokenize=False)
        rows = [TokensPrompt(prompt_token_ids=ids) for ids in prompts.many(streams, prompt)]
        chosen = [requests[row % adapters] for row in range(streams)] if adapters else None
        begin = time.perf_counter()
        results = model.generate(rows, sampling, lora_request=chosen, use_tqdm=False)
        seconds = time.perf_counter() - begin
        if any(len(result.outputs[0].token_ids) != tokens for result in results):
            raise SystemExit(f"asked for {tokens} tokens a row and got others")
        return seconds

    def run(work: turns.Work) -> float:
        if work.kind == "prefill":
            return answer(1, work.numbers[0], 1, 0)
        streams, prompt, tokens, adapters = work.numbers
        first = answer(streams, prompt, 1, adapters)
        return answer(streams, prompt, tokens + 1, adapters) - first

    turns.serve(kept, {"version": vllm.__version__}, given.work, run)


if __name__ == "__main__":
    main()
