"""OpenVINO GenAI on the CPU: prefill and decoding of a converted model, in the plugin's own choice of precision."""

import time

import turns

kept = turns.quiet_output()

import numpy
import openvino
import openvino_genai


def main() -> None:
    parser = turns.options(__doc__)
    parser.add_argument("--vocabulary", type=int, required=True)
    parser.add_argument("--precision", default="", help="INFERENCE_PRECISION_HINT; empty: the plugin's own")
    given = parser.parse_args()
    most = max(work.numbers[0] if work.kind == "decode" else 1 for work in given.work)
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 2
    scheduler.max_num_seqs = most
    scheduler.enable_prefix_caching = False
    settings = {"INFERENCE_NUM_THREADS": given.threads, "scheduler_config": scheduler}
    if given.precision:
        settings["INFERENCE_PRECISION_HINT"] = given.precision
    adapter = openvino_genai.Adapter(f"{given.adapters[0]}/adapter_model.safetensors") if given.adapters else None
    if adapter:
        settings["adapters"] = openvino_genai.AdapterConfig([adapter])
    pipeline = openvino_genai.LLMPipeline(given.model, "CPU", **settings)
    prompts = turns.Prompts(given.vocabulary)

    def answer(streams: int, prompt: int, tokens: int, adapters: int) -> float:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = tokens
        config.ignore_eos = True
        config.do_sample = False
        config.apply_chat_template = False
        if adapter:
            config.adapters = openvino_genai.AdapterConfig([adapter] if adapters else [])
        ids = numpy.array(prompts.many(streams, prompt), dtype=numpy.int64)
        given_ids = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        begin = time.perf_counter()
        result = pipeline.generate(given_ids, config)
        seconds = time.perf_counter() - begin
        if any(len(row) != tokens for row in result.tokens):
            raise SystemExit(f"asked for {tokens} tokens a row, got {[len(row) for row in result.tokens]}")
        return seconds

    def run(work: turns.Work) -> float:
        if work.kind == "prefill":
            return answer(1, work.numbers[0], 1, 0)
        streams, prompt, tokens, adapters = work.numbers
        first = answer(streams, prompt, 1, adapters)
        return answer(streams, prompt, tokens + 1, adapters) - first

    about = openvino_genai.__version__.split("-")[0]
    turns.serve(kept, {"version": about}, given.work, run)


if __name__ == "__main__":
    main()
