"""Checks the converted SmolLM2 against an implementation that shares nothing with ours.

    python bench/smollm2_perplexity.py --setup          # once: makes the reference's own venv
    python bench/smollm2_perplexity.py

Ours: protocol/smollm2.py -> mlx-lm in fp32. Theirs: transformers on torch, which reads, dequantises
and un-permutes the same GGUF itself and rebuilds the tokenizer itself. Prints both perplexities of
one English text, then three greedy completions; exits with 1 when the two differ by 1 % or more.

`--setup` takes about 2 minutes and 2 GB; by hand it is
    python -m venv DIR && DIR/bin/pip install torch==2.13.0 transformers==5.23.0 gguf accelerate
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any, cast

REFERENCE_PACKAGES = ("torch==2.13.0", "transformers==5.23.0", "gguf", "accelerate")
MAX_RELATIVE_DIFFERENCE = 0.01
PROMPTS = ("The capital of France is", "Water freezes at a temperature of", "One, two, three,")
TEXT = (
    "The old lighthouse stood at the end of a narrow spit of land, where the river met "
    "the sea. For almost a hundred years its lamp had warned ships away from the rocks, "
    "and for almost forty of those years the same man had climbed its 216 steps every "
    "evening. His name was Thomas, and he liked to say that he had walked to the moon and "
    "back without ever leaving the tower.\n\n"
    "In the winter of 1962 a storm came that nobody had expected. The forecast in the "
    "morning paper spoke of light winds and a little rain, but by noon the sky in the "
    "west had turned the colour of slate, and the gulls had all come inland. Thomas "
    "looked at the barometer, tapped the glass, and looked again. Then he filled the "
    "tanks with oil, carried two blankets and a loaf of bread up to the lamp room, and "
    "closed the heavy door behind him.\n\n"
    "The wind reached the coast a little after four o'clock. It took the roof off the "
    "boathouse, pulled three fishing boats from their moorings, and broke the telephone "
    "line to the village. Waves higher than houses ran up the beach and washed away the "
    "road. By the time it was dark, the lighthouse was an island, and the light at its "
    "top was the only thing that could be seen for miles.\n\n"
    "Out at sea, a small freighter with a crew of eleven was trying to find the mouth of "
    "the river. Her engine had failed twice during the afternoon, and her captain did not "
    "know exactly where she was. He had been told to look for two short flashes and a "
    "long one. For an hour he saw nothing but rain. Then, far away to the south, he saw "
    "them: short, short, long. He turned the ship toward the light and kept it on his "
    "left side, just as the chart told him, until the water under the keel grew quiet.\n\n"
    "In the morning the whole village came down to the harbour. The freighter lay at the "
    "pier with a broken mast and not one man missing. Someone rowed across to the "
    "lighthouse to bring Thomas the news, and found him asleep on the floor beside the "
    "lamp, which was still burning in the bright sunshine. When they woke him and told "
    "him what he had done, he thought about it for a while and asked whether anyone had "
    "brought some coffee."
)


def our_results(folder: Path) -> dict[str, Any]:
    """Token ids and perplexity of TEXT, and the greedy completions, by mlx-lm in fp32."""
    from protocol.blas import preload_blas

    preload_blas()
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm import generate, load

    model, tokenizer = load(str(folder))[:2]
    model.set_dtype(mx.float32)
    token_ids = tokenizer.encode(TEXT)
    tokens_T = mx.array(token_ids)
    loss = nn.losses.cross_entropy(model(tokens_T[None, :-1])[0], tokens_T[1:], reduction="mean")
    completions = {
        prompt: generate(model, tokenizer, prompt=tokenizer.encode(prompt), max_tokens=16)
        for prompt in PROMPTS
    }
    perplexity = math.exp(cast("float", loss.item()))
    return {"token_ids": token_ids, "perplexity": perplexity, "completions": completions}


def reference_results(gguf: Path) -> dict[str, Any]:
    """Token ids and perplexity of TEXT by transformers; runs in the reference's venv."""
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).eval()
    token_ids = tokenizer(TEXT)["input_ids"]
    tokens_BT = torch.tensor([token_ids])
    with torch.no_grad():
        loss = model(input_ids=tokens_BT, labels=tokens_BT).loss
    return {"token_ids": token_ids, "perplexity": math.exp(loss.item())}


def run_reference(python: Path, gguf: Path) -> dict[str, Any]:
    """Run this file's `reference_results` under another interpreter."""
    command = [str(python), __file__, "--reference-of", str(gguf)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(reference_python: Path) -> int:
    """Print both sides' figures; return the exit code."""
    from protocol.smollm2 import default_cache, fetch_gguf, smollm2_folder

    ours = our_results(smollm2_folder())
    with tempfile.TemporaryDirectory() as work:
        gguf = fetch_gguf(default_cache(), Path(work))
        theirs = run_reference(reference_python, gguf)
    difference = ours["perplexity"] / theirs["perplexity"] - 1
    print(f"tokens: {len(ours['token_ids'])}, same: {ours['token_ids'] == theirs['token_ids']}")
    print(f"perplexity, ours (mlx-lm, bf16 weights, fp32 compute): {ours['perplexity']:.5f}")
    print(f"perplexity, transformers (fp32 weights from the GGUF): {theirs['perplexity']:.5f}")
    print(f"relative difference: {difference:+.5%}")
    for prompt, completion in ours["completions"].items():
        print(f"{prompt!r} -> {completion!r}")
    same_tokens = ours["token_ids"] == theirs["token_ids"]
    return 0 if same_tokens and abs(difference) < MAX_RELATIVE_DIFFERENCE else 1


def set_up(folder: Path) -> None:
    """Make the reference's venv, apart from the project's."""
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *REFERENCE_PACKAGES], check=True)


def main() -> int:
    """Parse the command line and do the one thing it asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    default_venv = Path(tempfile.gettempdir()) / "mlx-rl-reference"
    parser.add_argument("--venv", type=Path, default=default_venv, help="the reference's venv")
    parser.add_argument("--setup", action="store_true", help="make that venv, then stop")
    parser.add_argument("--reference-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if arguments.setup:
        set_up(arguments.venv)
        return 0
    if arguments.reference_of:
        print(json.dumps(reference_results(arguments.reference_of)))
        return 0
    return compare(arguments.venv / "bin/python")


if __name__ == "__main__":
    sys.exit(main())
