"""Numbers as text, and estimates with their intervals."""

import math

import pytest

from ddim.plots.numbers import Estimate, duration, epochs, percent, power, short, three


def test_numbers_are_short():
    assert [three(x) for x in (4.4, 0.1234, 356.2, 1318.0)] == ["4.40", "0.123", "356", "1,318"]
    assert [short(n) for n in (850, 45_321, 6_469_889)] == ["850", "45.3 k", "6.47 M"]
    assert [epochs(n) for n in (0.43, 4.011, 12.03, 1000.0)] == ["0.43", "4", "12", "1,000"]
    assert [percent(math.log(n)) for n in (1.031, 1.12, 0.88, 14.0)] == ["3.1%", "12%", "12%", "1,300%"]
    assert power(4.04e-5) == "4.0 × 10⁻⁵"


def test_the_unit_of_one_is_singular():
    assert duration(60, "of training") == ("1", "minute of training")
    assert duration(7200, "of training") == ("2", "hours of training")
    assert duration(1, "of training") == ("1", "second of training")


def test_intervals_that_touch_decide_nothing():
    low, touching, above = Estimate(1, 0, 2), Estimate(3, 2, 4), Estimate(3, 2.001, 4)
    assert not low.below(touching)
    assert low.below(above)
    assert Estimate(4, 3, 5).no_worse(above)
    assert not Estimate(4.001, 3, 5).no_worse(above)


@pytest.mark.parametrize(
    ("one", "words", "short"),
    [
        (Estimate(14.23, 13.0, 15.3), "14.2 [13.0, 15.3]", "14.2 ± 1.2"),
        (Estimate(310.4, 280.0, 340.0), "310 [280, 340]", "310 ± 30"),
        (Estimate(0.0021, 0.0019, 0.0023), "0.00210 [0.00190, 0.00230]", "0.00210 ± 0.00020"),
        (Estimate(-0.01, -0.02, 0.0), "-0.010 [-0.020, 0.000]", "-0.010 ± 0.010"),
        (Estimate(2.0, 2.0, 2.0), "2.00 [2.00, 2.00]", "2.00 ± 0.00"),
        (Estimate(0.0, 0.0, 0.0), "0 [0, 0]", "0 ± 0"),
    ],
)
def test_a_figure_is_written_with_two_digits_of_its_interval(one, words, short):
    assert str(one) == words
    assert one.short == short
