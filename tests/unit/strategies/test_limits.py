"""Whatever the parameters and the observation, every rule's quotes keep the contract."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.agent import SessionContext
from mmsim.testing.scenarios import quote_problem
from mmsim.testing.strategies import observations
from mmsim.types import Instrument
from mmsim_strategies.avellaneda_stoikov import AvellanedaStoikov
from mmsim_strategies.foic import FOIC
from mmsim_strategies.glft import GLFT
from mmsim_strategies.liic import LIIC
from mmsim_strategies.template import Template

positive = st.floats(1e-3, 20)
RULES = {
    "FOIC": st.builds(FOIC, N=st.integers(0, 50), M=st.integers(0, 50), c=st.none() | st.integers(0, 12), size_units=st.integers(1, 20)),
    "LIIC": st.builds(LIIC, a=st.none() | positive, b=st.none() | st.floats(-5, 0), c=st.none() | st.integers(1, 12)),
    "AvellanedaStoikov": st.builds(AvellanedaStoikov, gamma=positive, horizon_s=st.none() | st.floats(0, 600)),
    "GLFT": st.builds(GLFT, gamma=positive, size_units=st.integers(1, 20)),
    "Template": st.builds(Template, offset_ticks=st.integers(0, 9), skew_ticks=st.floats(0, 5)),
}  # fmt: skip
CALIBRATIONS = st.fixed_dictionaries(
    {
        "sigma": st.floats(0, 50),
        "A": st.floats(1e-3, 50),
        "k": st.floats(1e-3, 5),
        "mean_spread": st.floats(1, 60),
    }
)


@pytest.mark.parametrize("name", RULES)
def test_quotes_keep_the_contract(name):
    @settings(max_examples=60, deadline=None)
    @given(RULES[name], observations(max_inventory=10), CALIBRATIONS)
    def check(maker, obs, calibration):
        ctx = SessionContext(
            instrument=Instrument("X", 1), dataset="x", max_inventory=10, max_order=10, max_levels=5, unit=1,
            start_ts=0, end_ts=1, decision_ns=1, rng=np.random.default_rng(0), calibration=calibration,
        )  # fmt: skip
        maker.reset(ctx)
        assert not quote_problem(maker.quote(obs), obs, ctx)

    check()
