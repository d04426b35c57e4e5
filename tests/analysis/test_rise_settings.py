"""Settings of RISE that contradict each other are refused with a reason."""

import pytest
from pydantic import ValidationError

from discern.config import RiseSettings


def test_default_is_the_papers():
    settings = RiseSettings()
    assert (settings.n_masks, settings.estimator, settings.precision) == (4096, "plain", "card")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"p": 0.4}, "p = 0.5"),
        ({"n_masks": 255}, "even n_masks, not 255"),
        ({"n_masks": "auto", "max_masks": 999}, "even max_masks, not 999"),
    ],
)
def test_antithetic_pairs_need_a_fair_coin_and_an_even_number(settings, reason):
    with pytest.raises(ValidationError, match=reason):
        RiseSettings(estimator="antithetic", **settings)
    assert RiseSettings(estimator="control_variate", **settings)


@pytest.mark.parametrize("n_masks", ["many", 3, 0])
def test_number_of_masks_is_auto_or_a_number_that_has_a_standard_error(n_masks):
    with pytest.raises(ValidationError, match="n_masks"):
        RiseSettings(n_masks=n_masks)
