"""Queue models of level feeds: how many of the lots cancelled at our price stood ahead of us."""

from __future__ import annotations

import numpy as np

from mmsim._jit import inline_kernel, kernel
from mmsim.sim.records import Q_CUSTOM, Q_LOG, Q_POWER, Q_RISK_AVERSE
from mmsim.user_call import call_share


@inline_kernel
def power(x, millionths):
    """Return ``x ** (millionths / 1e6)``; the square, by far the most used, without the library's power."""
    return x * x if millionths == 2_000_000 else x ** (millionths / 1e6)


@kernel
def cancelled_ahead(rules, ahead, behind, gone):
    """Return how many of `gone` cancelled lots stood ahead of us, by the queue model of level feeds.

    With ``f(x)`` = x (proportional), x ** n (power) or log(1 + x) (log), a cancelled lot stood ahead of us
    with probability ``f(ahead) / (f(ahead) + f(behind))``; half lots are rounded up. Risk-averse: cancels
    come from behind us as long as there is anybody. The user's function answers in lots.
    """
    model = rules.queue
    if model == Q_RISK_AVERSE or ahead + behind == 0:
        share = gone - min(gone, behind)
    elif behind == 0:
        share = gone
    elif model == Q_POWER:
        a, b = power(np.float64(ahead), rules.queue_power), power(np.float64(behind), rules.queue_power)
        share = np.int64(np.floor(gone * a / (a + b) + 0.5))
    elif model == Q_LOG:
        a, b = np.log1p(np.float64(ahead)), np.log1p(np.float64(behind))
        share = np.int64(np.floor(gone * a / (a + b) + 0.5))
    elif model == Q_CUSTOM:
        share = max(call_share(rules.queue_function, ahead, behind, gone), 0)
    else:
        share = (gone * ahead * 2 + ahead + behind) // (2 * (ahead + behind))
    return min(share, ahead, gone)
