"""PyTorch with PEFT: LoRA training steps, eager or compiled, and generation with `adapter_names`."""

import time

import turns

kept = turns.quiet_output()

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Training:
    """One step: forward, backward, clipping, AdamW; every token labelled."""

    def __init__(self, path: str, rank: int, compiled: bool, dtype: str) -> None:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS, task_type="CAUSAL_LM")
        self.model = get_peft_model(model, config)
        self.model.train()
        self.vocabulary = model.config.vocab_size
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0.0)
        self.forward = torch.compile(self.model) if compiled else self.model

    def round(self, rows: int, length: int) -> float:
        ids = torch.randint(0, self.vocabulary, (rows, length))
        begin = time.perf_counter()
        # No mask: all rows have the full length.
        self.forward(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - begin


class Generation:
    """Greedy generation of one batch whose rows name different adapters."""

    def __init__(self, path: str, adapters: list[str]) -> None:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval()
        self.names = [f"a{index}" for index in range(len(adapters))]
        for name, folder in zip(self.names, adapters, strict=True):
            if isinstance(model, PeftModel):
                model.load_adapter(folder, adapter_name=name)
            else:
                model = PeftModel.from_pretrained(model, folder, adapter_name=name)
        self.model = model.eval().to(torch.bfloat16)
        self.prompts = turns.Prompts(model.config.vocab_size)

    def answer(self, streams: int, prompt: int, tokens: int, adapters: int) -> float:
        ids = torch.tensor(self.prompts.many(streams, prompt))
        chosen = {"adapter_names": [self.names[row % adapters] for row in range(streams)]} if adapters else {}
        begin = time.perf_counter()
        with torch.inference_mode():
            self.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens,
                do_sample=False, **chosen,
            )  # fmt: skip
        return time.perf_counter() - begin

    def round(self, streams: int, prompt: int, tokens: int, adapters: int) -> float:
        first = self.answer(streams, prompt, 1, adapters)
        return self.answer(streams, prompt, tokens + 1, adapters) - first


def main() -> None:
    parser = turns.options(__doc__)
    parser.add_argument("--compiled", action="store_true", help="train under torch.compile")
    parser.add_argument("--dtype", default="bfloat16", help="of weights and products in training")
    parser.add_argument("--rank", type=int, default=16)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    kinds = {work.kind for work in given.work}
    training = Training(given.model, given.rank, given.compiled, given.dtype) if "train" in kinds else None
    generation = Generation(given.model, given.adapters) if "decode" in kinds else None

    def run(work: turns.Work) -> float:
        side = training if work.kind == "train" else generation
        return side.round(*work.numbers)

    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, PEFT {peft.__version__}"
    # Compiling happens in the first step, and once more when it sees that the first guess held.
    turns.serve(kept, {"version": versions}, given.work, run, warm=2 if given.compiled else 1)


if __name__ == "__main__":
    main()
