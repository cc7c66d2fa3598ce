"""Values that labels of metrics have from the start, and the buckets of histograms."""

ROLES = ("actor", "reward_worker")
STATES = ("ready", "leased", "scoring", "scored", "handed_over")
STAGES = ("wait", "train", "publish", "other")
CHANNELS = ("control", "rollouts", "weights", "notice")
REJECTIONS = (
    *("frames", "header", "invalid", "malformed", "too_large", "protocol_version", "unknown_code"),
    *("identity", "token_range", "unexpected", "unregistered"),
)
DROPS = ("attempts", "masked", "no_advantage", "non_finite", "retired", "zero_advantage")
DISCARDS = ("actor_lost", "deadline", "failed", "stale")
REFUSALS = (
    *("future_version", "lease_failed", "not_holder", "stale_attempt", "too_long"),
    *("unknown_group", "unknown_sample", "wrong_version"),
)
MASKS = (
    *("reward_crashed", "reward_error", "reward_memory", "reward_timeout", "sandbox_error"),
    *("no_reward_applies", "reward_worker_lost"),
)
SKIPS = ("non_finite", "masked", "no_advantage")
SYMPTOMS = (
    *("entropy_collapse", "equal_rewards", "truncation", "far_off_policy", "mismatch"),
    *("masked_samples",),
)
VERDICTS = ("passed", "failed", "timeout", "oom", "crashed", "output_limit", "sandbox_error")

TOKEN_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
STALENESS_BUCKETS = (0, 1, 2, 3, 4, 6, 8, 12, 16)
SECONDS_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
