"""What form a checkpoint is exported in, and which forms it cannot have."""

from dataclasses import dataclass

from protocol.errors import ConfigError


@dataclass(frozen=True)
class Form:
    """The options of `mlx-export` that change numbers."""

    fuse: bool = False
    """Adapters become part of the model."""
    dequantize: bool = False
    """A quantised base does not stay quantised when adapters are fused into it."""
    dtype: str | None = None
    """None leaves the run's policy.weight_dtype."""
    bits: int | None = None
    """None does not quantise."""
    group_size: int | None = None
    """Weights that share a scale; None is 64."""

    @property
    def suffix(self) -> str:
        """Tells the default folders of several forms of one step apart."""
        parts = ["fused"] * self.fuse + ["dequantised"] * self.dequantize
        parts += [self.dtype] if self.dtype else []
        parts += [f"{self.bits}bit"] if self.bits else []
        return "".join(f"-{part}" for part in parts)


def refuse_contradiction(form: Form, tuning: str, *, is_quantised: bool) -> None:
    """Refuse a form that this checkpoint cannot have.

    Args:
        form: what is asked for.
        tuning: of the run, full or lora.
        is_quantised: whether the model that it trained is.

    Raises:
        ConfigError: one sentence with the remedy.
    """
    if form.fuse and tuning != "lora":
        raise ConfigError("the run tuned the whole model, there is nothing to fuse: omit --fuse")
    if form.bits and form.dtype:
        raise ConfigError("--quantize and --dtype exclude each other: choose one")
    if form.group_size and not form.bits:
        raise ConfigError("--group-size is of --quantize: add that, or leave it out")
    if tuning == "lora" and not form.fuse and (form.bits or form.dequantize):
        option = "--quantize" if form.bits else "--dequantize"
        raise ConfigError(
            f"{option} is for a model, and this run's checkpoint holds adapters: add --fuse"
        )
    if form.dequantize and not is_quantised:
        raise ConfigError("the model is not quantised: leave --dequantize out")
    if form.bits and is_quantised and not form.dequantize:
        raise ConfigError(
            "the base model is quantised already, and stays so when it is fused: leave --quantize "
            "out, or add --dequantize"
        )
