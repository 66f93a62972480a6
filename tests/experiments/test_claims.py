"""The verdict: what is said of constructed numbers."""

import pytest

from ddim.experiments import experiments
from ddim.experiments.results import convert
from ddim.experiments.table1 import eta_zero, fewer_steps, sigma_hat
from madeup import COUNT, FEW, interval, quality, results, table1

T = 20


def result(name, facts):
    """What the JSON of a result stands for."""
    made = convert(experiments[name], facts)
    assert made is not None
    return made


def claim(name, facts):
    """The one claim that a result decides."""
    (found,) = experiments[name].claims(result(name, facts), T)
    return found


def test_what_was_not_measured_is_neither_true_nor_false():
    found = [claim for one in experiments.values() for claim in one.claims(None, T)]
    assert len(found) == 6
    assert {one.verdict for one in found} == {"not measured"}
    assert {one.holds for one in found} == {None}
    assert all(one.evidence.startswith("This requires ") for one in found)


def test_results_like_the_papers_bear_out_its_claims():
    found = [one for name, facts in results().items() for one in experiments[name].claims(result(name, facts), T)]
    assert [one.verdict for one in found] == ["holds"] * 6


# With ten times fewer steps as good


def trials(*excesses, whole=30.0, half=1.0):
    """Rows of eta = 0 for (S, by how much its distance exceeds that of S = T), of which there are few images only.

    A tenth of that distance is 3.
    """
    rows = [quality("linear", S, "0", 30.0, excess=more, half=4 * half) for S, more in excesses]
    return table1([*rows, quality("linear", T, "0", whole, count=FEW)])


@pytest.mark.parametrize(
    ("excesses", "verdict", "said"),
    [
        ([(2, 1.0), (10, 0.0)], "holds", "S = 2 with linear spacing, 10 times fewer"),
        ([(2, 2.0), (10, 0.0)], "holds", "S = 2 with"),  # the interval ends at the tenth
        ([(2, 2.01), (10, 0.0)], "open", "The smallest S that is as good is 10."),
        ([(2, 4.0), (10, 0.0)], "open", "The nearest is S = 2"),  # and here it begins there
        ([(2, 4.01), (10, 0.0)], "fails", "The smallest S that is as good is 10."),
        ([(2, 4.5), (10, 9.0)], "fails", "that of all steps, 30.0 [29.0, 31.0], by 4.5 [3.5, 5.5]"),
        ([(2, 1.0), (10, 4.0)], "open", "The nearest is S = 2"),  # chance, as S = 10 is worse
        ([(1, 1.0), (2, 1.0), (10, 1.0)], "holds", "S = 1 with linear spacing, 20 times fewer"),
        ([(1, 9.0), (2, -5.0), (10, 1.0)], "holds", "S = 2 with"),
    ],
)
def test_few_steps_are_as_good_if_at_most_a_tenth_is_added(excesses, verdict, said):
    found = fewer_steps(result("table1", trials(*excesses)), T)
    assert found.verdict == verdict
    assert said in found.evidence
    assert f"on {FEW} images each" in found.evidence


def test_the_claim_does_not_fail_before_a_tenth_of_the_steps_was_tried():
    found = fewer_steps(result("table1", trials((1, 9.0), (10, 0.0))), T)
    assert found.verdict == "open"
    assert found.evidence.endswith("The smallest S that is as good is 10. S = 2 was not measured.")


def test_a_wide_interval_decides_nothing():
    assert fewer_steps(result("table1", trials((2, 0.0), half=1.0)), T).verdict == "holds"
    assert fewer_steps(result("table1", trials((2, 0.0), half=3.5)), T).verdict == "open"


@pytest.mark.parametrize("rows", [[(2, 30.0)], [(10, 30.0)], [(T, 30.0)]])
def test_a_tenth_of_the_steps_and_all_of_them_have_to_be_there(rows):
    made = [quality("linear", S, "0", value) for S, value in rows]
    assert fewer_steps(result("table1", table1(made)), T).verdict == "not measured"


# eta = 0, eta = 1 and sigma-hat in few steps


def contest(zero, one, hat, steps=(10, 20), half=1.0):
    rows = []
    for S in steps:
        for eta, value in (("0", zero), ("1", one), ("hat", hat)):
            rows.append(quality("linear", S, eta, value, half))
    return table1(rows)


@pytest.mark.parametrize(
    ("zero", "one", "hat", "verdicts"),
    [
        (14.0, 18.0, 90.0, ("holds", "holds")),
        (14.0, 16.0, 18.0, ("open", "open")),  # the intervals touch
        (18.0, 14.0, 10.0, ("fails", "fails")),
        (16.0, 14.0, 12.0, ("open", "open")),
    ],
)
def test_one_eta_beats_another_only_for_sure(zero, one, hat, verdicts):
    here = result("table1", contest(zero, one, hat))
    found = eta_zero(here, T), sigma_hat(here, T)
    assert tuple(claim.verdict for claim in found) == verdicts
    assert f"{zero} [{zero - 1}, {zero + 1}] against {one} [{one - 1}, {one + 1}] at S = 10" in found[0].evidence
    assert found[0].evidence.startswith(f"Fréchet distance of η = 0 against η = 1, of {COUNT} images each: ")


def test_one_spacing_for_which_it_is_undecided_leaves_it_open():
    facts = contest(14.0, 18.0, 90.0)
    facts["rows"] += [quality("quadratic", 10, eta, value) for eta, value in (("0", 14.0), ("1", 15.0))]
    assert eta_zero(result("table1", facts), T).verdict == "open"


def test_unequal_numbers_of_images_are_told_one_by_one():
    rows = [quality("linear", 10, "1", 18.0), quality("linear", 10, "0", 14.0)]
    rows += [quality("quadratic", 10, "1", 50.0), quality("quadratic", 10, "0", 40.0, count=FEW)]
    found = eta_zero(result("table1", table1(rows)), T)
    assert "at S = 10 (linear, 500 images each)" in found.evidence
    assert "40.0 [39.0, 41.0] against 70.0 [68.0, 72.0] at S = 10 (quadratic, 100 images each)" in found.evidence


def test_the_claim_names_the_steps_that_were_measured():
    assert "(S = 10 and 20)" in eta_zero(None, T).claim
    assert "(S = 10)" in eta_zero(result("table1", contest(14.0, 18.0, 90.0, steps=(10,))), T).claim


def test_a_distance_of_zero_is_a_number_too():
    rows = [quality("linear", 2, "0", 9.0, excess=9.0), quality("linear", T, "0", 0.0, half=0.0, count=FEW)]
    assert fewer_steps(result("table1", table1(rows)), T).verdict == "fails"


def test_sigma_hat_is_judged_at_ten_steps():
    assert sigma_hat(result("table1", contest(1, 2, 90, steps=(20,))), T).verdict == "not measured"


# The rest


@pytest.mark.parametrize(("rms", "verdict"), [(0.05, "holds"), (0.3549, "holds"), (0.355, "fails"), (0.7, "fails")])
def test_the_same_image_is_nearer_than_half_of_what_lies_between_others(rms, verdict):
    rows = [{"steps": 2, "rms": rms}, {"steps": 10, "rms": 0.01}, {"steps": T, "rms": 0.0}]
    found = claim("consistency", {"between": 0.71, "rows": rows})
    assert found.verdict == verdict
    assert f"{rms:.3f} at S = 2, 0.010 at S = 10" in found.evidence


def test_the_longest_walk_alone_says_nothing():
    facts = {"between": 0.71, "rows": [{"steps": T, "rms": 0.0}]}
    assert claim("consistency", facts).verdict == "not measured"


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([0.03, 0.01, 0.001], "holds"),
        ([0.03, 0.0100, 0.0105], "holds"),  # the last two are level
        ([0.03, 0.01, 0.029], "fails"),
        ([0.030, 0.031, 0.0285], "open"),
        ([0.001, 0.01, 0.03], "fails"),
    ],
)
def test_the_error_falls_from_the_first_to_the_last(errors, verdict):
    rows = [{"steps": S, "error": error, **interval(error, 0.001)} for S, error in zip((2, 10, T), errors, strict=True)]
    found = claim("reconstruction", {"count": 64, "rows": rows[::-1]})
    assert found.verdict == verdict
    assert ("it rises from" in found.evidence) == (errors[2] > errors[1] + 0.001 or errors[1] > errors[0] + 0.001)


def test_one_error_is_no_fall():
    rows = [{"steps": 2, "error": 0.1, **interval(0.1, 0.01)}]
    assert claim("reconstruction", {"count": 64, "rows": rows}).verdict == "not measured"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "holds"),
        ({"flagged": 0}, "holds"),
        ({"p_value": 0.05}, "holds"),
        ({"p_value": 0.049}, "fails"),
        ({"nearer": 0.6, "nearer_low": 0.5, "nearer_high": 0.7}, "holds"),
        ({"nearer": 0.6, "nearer_low": 0.501, "nearer_high": 0.7}, "open"),
        ({"nearer": 0.6, "nearer_low": 0.501, "nearer_high": 0.7, "p_value": 0.001}, "fails"),
        ({"nearer": 0.1, "nearer_low": 0.05, "nearer_high": 0.15}, "holds"),
    ],
)
def test_copies_are_more_suspicious_samples_than_chance_explains(changes, verdict):
    found = claim("memorisation", {**results()["memorisation"], **changes})
    assert found.verdict == verdict
    assert "No near-exact copies" in found.claim
    assert "of 500 samples" in found.evidence
    assert "mostly not detected" in found.evidence
