"""Makes the built-in tiny policy: a small llama that gets about 40 % of unseen sums right.

    python bench/make_tiny.py --out protocol/builtin/tiny

It writes a folder in mlx-lm's layout. The model is trained on the train split of the arithmetic
task `add2` by plain supervision, as a pupil who can add but forgets the carry more often than not:
in `FORGET_SHARE` of the rows drawn, the answer is the sum without its carries (37+48=75). So the
right answer is nearly always among a group of samples, greedy decoding often misses it, and rewards
alone can teach the rest within minutes. A policy stopped early on right answers starts at the same
accuracy, but most of its errors are noise and reinforcement learning lifts it too slowly to show.

The held-out split only decides when to stop. Takes about a minute on one slow core; the same seed,
machine and BLAS give the same bytes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from protocol.blas import preload_blas

preload_blas()

import mlx.core as mx  # noqa: E402 - the BLAS must be loaded first
import mlx.nn as nn  # noqa: E402
import mlx.optimizers as optim  # noqa: E402
from mlx.utils import tree_flatten, tree_map  # noqa: E402
from mlx_lm.models.llama import Model, ModelArgs  # noqa: E402
from tokenizers import Tokenizer, decoders, models  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402

from learner.data.arithmetic import arithmetic_rows, max_rows  # noqa: E402

TASK = "add2"
PAD, UNK, EOS = "<|pad|>", "<|unk|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SYMBOLS = "0123456789+-*/=().,:;?!<>[]\n "
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SHAPE: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "intermediate_size": 384,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
}
BATCH_SIZE = 128
LEARNING_RATE = 1e-3
FORGET_SHARE = 0.6
HELDOUT_PROMPTS = 1024
MIN_STEPS = 340  # before, the accuracy passes through STOP_AT in a model that cannot add yet
EVALUATE_EVERY = 2
AVERAGE_DECAY = 0.9
STOP_AT = 0.40
TOLERANCE = 0.015


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Builds a tokenizer with one token a character; a character it lacks becomes `UNK`."""
    specials = [PAD, UNK, *ROLES, EOS]
    vocabulary = {token: number for number, token in enumerate([*specials, *SYMBOLS])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNK))
    tokenizer.add_special_tokens(specials)
    tokenizer.decoder = decoders.Fuse()  # without it, decode joins tokens with spaces
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNK,
        eos_token=EOS,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=SHAPE["max_position_embeddings"],
    )


def chat_ids(tokenizer: PreTrainedTokenizerFast, prompt: str) -> list[int]:
    """Renders one user message as the ids that a completion continues."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
    )
    return tokenizer.encode(str(text), add_special_tokens=False)


def without_carries(row: dict[str, Any]) -> dict[str, Any]:
    """Gives a row the answer of a pupil who forgets every carry: 37+48=75, 67+85=42."""
    a, b = (int(operand) for operand in row["prompt"].removesuffix("=").split("+"))
    return row | {"answer": str((a // 10 + b // 10) % 10 * 10 + (a + b) % 10)}


def encode_rows(
    tokenizer: PreTrainedTokenizerFast, rows: list[dict[str, Any]]
) -> tuple[mx.array, mx.array]:
    """Encodes rows as right-padded token ids and a mask of the completion's tokens, both [B, T]."""
    prompts = [chat_ids(tokenizer, row["prompt"]) for row in rows]
    answers = [tokenizer.encode(row["answer"] + EOS, add_special_tokens=False) for row in rows]
    num_tokens = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids, mask = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        padding = num_tokens - len(prompt) - len(answer)
        ids.append(prompt + answer + [tokenizer.pad_token_id] * padding)
        mask.append([False] * len(prompt) + [True] * len(answer) + [False] * padding)
    return mx.array(ids), mx.array(mask)


def supervised_loss(model: nn.Module, ids_BT: mx.array, mask_BT: mx.array) -> mx.array:
    """Mean cross-entropy, in nats a token, of the completion's tokens."""
    losses_BT = nn.losses.cross_entropy(model(ids_BT[:, :-1]), ids_BT[:, 1:])
    weights_BT = mask_BT[:, 1:]
    return mx.where(weights_BT, losses_BT, 0.0).sum() / weights_BT.sum()


def move_average(average: Model, model: Model) -> None:
    """Moves the averaged weights towards the model's; accuracy is steadier at the average."""
    moved = tree_map(
        lambda old, new: AVERAGE_DECAY * old + (1 - AVERAGE_DECAY) * new,
        average.parameters(),
        model.parameters(),
    )
    average.update(moved)


def greedy_accuracy(model: Model, ids_BT: mx.array, mask_BT: mx.array) -> float:
    """Fraction of rows whose completion, eos included, greedy decoding gets right.

    Computed at the weights rounded to bf16, as they will be saved. One forward pass does it: greedy
    decoding is right when every token of the answer is the likeliest one after its predecessors.
    """
    saved = Model(model.args)
    saved.update(tree_map(lambda w: w.astype(mx.bfloat16).astype(mx.float32), model.parameters()))
    right_BT = saved(ids_BT[:, :-1]).argmax(axis=-1) == ids_BT[:, 1:]
    return float(mx.where(mask_BT[:, 1:], right_BT, True).all(axis=1).mean())


def warm_up(
    model: Model, tokenizer: PreTrainedTokenizerFast, max_steps: int
) -> tuple[Model, float]:
    """Trains on the train split until the model adds and gets `STOP_AT` of held-out sums right.

    Returns:
        The model with its weights averaged over the last steps, and its greedy accuracy on
        `HELDOUT_PROMPTS` held-out prompts at bf16-rounded weights.

    Raises:
        RuntimeError: the accuracy never came within `TOLERANCE` of `STOP_AT`.
    """
    rows = arithmetic_rows(TASK, "train", max_rows(TASK, "train"))
    train = encode_rows(tokenizer, rows + [without_carries(row) for row in rows])
    heldout = encode_rows(tokenizer, arithmetic_rows(TASK, "heldout", HELDOUT_PROMPTS))
    optimizer = optim.AdamW(learning_rate=LEARNING_RATE, bias_correction=True)
    average = Model(model.args)
    average.update(model.parameters())
    loss_and_grad = nn.value_and_grad(model, supervised_loss)
    for step in range(1, max_steps + 1):
        chosen_B = mx.random.randint(0, len(rows), (BATCH_SIZE,))
        chosen_B += len(rows) * mx.random.bernoulli(FORGET_SHARE, (BATCH_SIZE,))
        loss, gradients = loss_and_grad(model, train[0][chosen_B], train[1][chosen_B])
        optimizer.update(model, gradients)
        move_average(average, model)
        mx.eval(loss, model.parameters(), average.parameters(), optimizer.state)
        if step < MIN_STEPS or step % EVALUATE_EVERY:
            continue
        accuracy = greedy_accuracy(average, *heldout)
        print(f"step {step}: loss {loss.item():.3f} nats, held-out accuracy {accuracy:.3f}")
        if abs(accuracy - STOP_AT) <= TOLERANCE:
            return average, accuracy
    raise RuntimeError(f"no step of {max_steps} came within {TOLERANCE} of {STOP_AT}")


def save(model: Model, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes weights in bf16, config and tokenizer as `mlx_lm.load` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = dict(tree_flatten(tree_map(lambda w: w.astype(mx.bfloat16), model.parameters())))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    config = SHAPE | {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def main() -> None:
    """Makes the built-in tiny policy and writes its folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-steps", type=int, default=1000)
    arguments = parser.parse_args()
    mx.random.seed(arguments.seed)
    tokenizer = make_tokenizer()
    model = Model(ModelArgs.from_dict(SHAPE | {"vocab_size": len(tokenizer)}))
    policy, accuracy = warm_up(model, tokenizer, arguments.max_steps)
    save(policy, tokenizer, arguments.out)
    print(f"wrote {arguments.out}: held-out accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
