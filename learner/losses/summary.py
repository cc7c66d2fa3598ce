"""Sums over a step's tokens -> the figures that a user reads."""

from collections.abc import Mapping


def token_figures(sums: Mapping[str, float], num_tokens: int) -> dict[str, float]:
    """Means over tokens, and what is made of several of them.

        ess = mean(rho)^2 / mean(rho^2)
        value/explained_variance = 1 - var(return - value) / var(return)

    Args:
        sums: metrics as losses return them, added up over the step's microbatches.
        num_tokens: tokens that they were summed over.

    Returns:
        The metrics' means under their names; in place of the squares' means, `ess` (the share of
        the tokens that would say as much if all had the same importance ratio) and, with a critic,
        `value/explained_variance` (1: the critic foresees every return; 0: no better than a
        constant), absent where all returns are equal.
    """
    means = {name: value / num_tokens for name, value in sums.items()}
    squared = means.pop("importance_ratio_squared", 0.0)
    if squared > 0.0:
        means["ess"] = means["importance_ratio"] ** 2 / squared
    if "return_squared" in means:
        spread = means.pop("return_squared") - means["return"] ** 2
        unexplained = means.pop("value_error_squared") - means.pop("value_error") ** 2
        if spread > 0.0:
            means["value/explained_variance"] = 1.0 - unexplained / spread
    return means
