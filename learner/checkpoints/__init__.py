"""Checkpoints that mlx_lm.load reads and that a run continues from.

step_000010/
    config.json, tokenizer files     copied from the model
    model.safetensors                the policy (full tuning), rounded to weight_dtype
    adapters.safetensors, adapter_config.json    (lora tuning) for load(..., adapter_path=)
    trainer.safetensors              fp32 masters and the optimizer's state
    trainer.json                     step, policy version, ledger snapshot, facts of the run
    groups.msgpack                   groups that were scored and not trained on yet
    manifest.json                    size and digest of every file above; written last
"""
