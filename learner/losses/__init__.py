"""Losses as mathematics: arrays in, arrays and sums out; no model and no I/O.

    ratios.py       how far two policies are apart at a token
    surrogates.py   what to minimise for the sake of the reward, by token
    off_policy.py   the factor of tokens that another policy sampled
    kl.py           the pull towards the reference model, by token
    critic.py       what a critic is taught, by token
    aggregation.py  how tokens weigh
    policy_loss.py  all of them put together

Everything adds up over microbatches. A loss is the sum of its tokens' terms, each with a weight
from `token_weights` that already holds the denominator of the whole step; a metric is a plain sum
over tokens, and `sum / num_tokens` of the step is the mean that its name says.

B completions, T tokens. `mask_BT` is True where a token is trained on; what stands elsewhere in any
array reaches no value and no gradient, not even as a NaN.
"""
