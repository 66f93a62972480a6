"""The verdict: what is said of constructed numbers."""

import pytest
from madeup import COUNT, FEW, interval, leave, quality, results, table1

from ddim.report import claims, few_steps
from ddim.report.measured import Measured
from ddim.report.record import read

T = 20  # of the model that the fixture makes


@pytest.fixture
def record(trained):
    """A record that holds one result."""

    def make(name=None, facts=None):
        folder = trained()
        if name:
            leave(folder, name, facts)
        return read(folder)

    return make


def test_what_was_not_measured_is_neither_true_nor_false(record):
    found = claims.claims(record())
    assert {one.verdict for one in found} == {"not measured"}
    assert {one.holds for one in found} == {None}
    assert all(one.words.startswith("It takes ") for one in found)


def test_results_like_the_papers_bear_out_its_claims(trained):
    folder = trained()
    for name, facts in results().items():
        leave(folder, name, facts)
    assert [one.verdict for one in claims.claims(read(folder))] == ["holds"] * 6


def test_intervals_that_touch_decide_nothing():
    low, touching, above = Measured(1, 0, 2), Measured(3, 2, 4), Measured(3, 2.001, 4)
    assert not low.below(touching)
    assert low.below(above)
    assert Measured(4, 3, 5).no_worse(above)
    assert not Measured(4.001, 3, 5).no_worse(above)


@pytest.mark.parametrize(
    ("one", "words", "short"),
    [
        (Measured(14.23, 13.0, 15.3), "14.2 [13.0, 15.3]", "14.2 ± 1.2"),
        (Measured(310.4, 280.0, 340.0), "310 [280, 340]", "310 ± 30"),
        (Measured(0.0021, 0.0019, 0.0023), "0.00210 [0.00190, 0.00230]", "0.00210 ± 0.00020"),
        (Measured(-0.01, -0.02, 0.0), "-0.010 [-0.020, 0.000]", "-0.010 ± 0.010"),
        (Measured(2.0, 2.0, 2.0), "2.00 [2.00, 2.00]", "2.00 ± 0.00"),
        (Measured(0.0, 0.0, 0.0), "0 [0, 0]", "0 ± 0"),
    ],
)
def test_a_figure_is_written_with_two_digits_of_its_interval(one, words, short):
    assert str(one) == words
    assert one.short == short


# With ten times fewer steps as good


def walks(*excesses, whole=30.0, half=1.0):
    """Rows of eta = 0 for (S, by how much its distance exceeds that of S = T), of which there are few images only.

    A tenth of that distance is 3.
    """
    rows = [quality("linear", S, "0", 30.0, excess=more, half=4 * half) for S, more in excesses]
    return table1([*rows, quality("linear", T, "0", whole, count=FEW)])


@pytest.mark.parametrize(
    ("excesses", "verdict", "said"),
    [
        ([(2, 1.0), (10, 0.0)], "holds", "S = 2 on the linear ladder, 10 times fewer"),
        ([(2, 2.0), (10, 0.0)], "holds", "S = 2 on"),  # the interval ends at the tenth
        ([(2, 2.01), (10, 0.0)], "open", "The smallest S that is as good is 10."),
        ([(2, 4.0), (10, 0.0)], "open", "The nearest of them is S = 2"),  # and here it begins there
        ([(2, 4.01), (10, 0.0)], "fails", "The smallest S that is as good is 10."),
        (
            [(2, 4.5), (10, 9.0)],
            "fails",
            "that of all steps, 30.0 [29.0, 31.0], by 4.5 [3.5, 5.5]",
        ),
        ([(2, 1.0), (10, 4.0)], "open", "The nearest of them is S = 2"),  # chance, as S = 10 is worse
        ([(1, 1.0), (2, 1.0), (10, 1.0)], "holds", "S = 1 on the linear ladder, 20 times fewer"),
        ([(1, 9.0), (2, -5.0), (10, 1.0)], "holds", "S = 2 on"),
    ],
)
def test_few_steps_are_as_good_if_at_most_a_tenth_is_added(record, excesses, verdict, said):
    found = few_steps.fewer_steps(record("table1", walks(*excesses)))
    assert found.verdict == verdict
    assert said in found.words
    assert f"of {FEW} images each" in found.words


def test_the_claim_does_not_fail_before_a_tenth_of_the_steps_was_tried(record):
    found = few_steps.fewer_steps(record("table1", walks((1, 9.0), (10, 0.0))))
    assert found.verdict == "open"
    assert found.words.endswith("The smallest S that is as good is 10. S = 2 was not measured.")


def test_a_wide_interval_decides_nothing(record):
    assert few_steps.fewer_steps(record("table1", walks((2, 0.0), half=1.0))).verdict == "holds"
    assert few_steps.fewer_steps(record("table1", walks((2, 0.0), half=3.5))).verdict == "open"


@pytest.mark.parametrize("rows", [[(2, 30.0)], [(10, 30.0)], [(T, 30.0)]])
def test_a_tenth_of_the_steps_and_all_of_them_have_to_be_there(record, rows):
    made = [quality("linear", S, "0", value) for S, value in rows]
    assert few_steps.fewer_steps(record("table1", table1(made))).verdict == "not measured"


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
def test_one_eta_beats_another_only_for_sure(record, zero, one, hat, verdicts):
    here = record("table1", contest(zero, one, hat))
    found = few_steps.eta_zero(here), few_steps.sigma_hat(here)
    assert tuple(claim.verdict for claim in found) == verdicts
    assert f"{zero} [{zero - 1}, {zero + 1}] against {one} [{one - 1}, {one + 1}] at S = 10" in found[0].words
    assert found[0].words.startswith(f"Fréchet distance of η = 0 against η = 1, of {COUNT} images each: ")


def test_one_ladder_on_which_it_is_undecided_leaves_it_open(record):
    facts = contest(14.0, 18.0, 90.0)
    facts["rows"] += [quality("quadratic", 10, eta, value) for eta, value in (("0", 14.0), ("1", 15.0))]
    assert few_steps.eta_zero(record("table1", facts)).verdict == "open"


def test_unequal_numbers_of_images_are_told_one_by_one(record):
    rows = [quality("linear", 10, "1", 18.0), quality("linear", 10, "0", 14.0)]
    rows += [quality("quadratic", 10, "1", 50.0), quality("quadratic", 10, "0", 40.0, count=FEW)]
    found = few_steps.eta_zero(record("table1", table1(rows)))
    assert "at S = 10 (linear, 500 images each)" in found.words
    assert "40.0 [39.0, 41.0] against 70.0 [68.0, 72.0] at S = 10 (quadratic, 100 images each)" in found.words


def test_the_claim_names_the_steps_that_were_measured(record):
    assert "(S = 10 and 20)" in few_steps.eta_zero(record()).claim
    assert "(S = 10)" in few_steps.eta_zero(record("table1", contest(14.0, 18.0, 90.0, steps=(10,)))).claim


def test_a_distance_of_zero_is_a_number_too(record):
    rows = [quality("linear", 2, "0", 9.0, excess=9.0), quality("linear", T, "0", 0.0, half=0.0, count=FEW)]
    assert few_steps.fewer_steps(record("table1", table1(rows))).verdict == "fails"


def test_sigma_hat_is_judged_at_ten_steps(record):
    assert few_steps.sigma_hat(record("table1", contest(1, 2, 90, steps=(20,)))).verdict == "not measured"


# The rest


@pytest.mark.parametrize(("rms", "verdict"), [(0.05, "holds"), (0.3549, "holds"), (0.355, "fails"), (0.7, "fails")])
def test_the_same_image_is_nearer_than_half_of_what_lies_between_others(record, rms, verdict):
    rows = [{"steps": 2, "rms": rms}, {"steps": 10, "rms": 0.01}, {"steps": T, "rms": 0.0}]
    found = claims.same_image(record("consistency", {"between": 0.71, "rows": rows}))
    assert found.verdict == verdict
    assert f"{rms:.3f} at S = 2, 0.010 at S = 10" in found.words


def test_the_longest_walk_alone_says_nothing(record):
    facts = {"between": 0.71, "rows": [{"steps": T, "rms": 0.0}]}
    assert claims.same_image(record("consistency", facts)).verdict == "not measured"


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
def test_the_error_falls_from_the_first_to_the_last(record, errors, verdict):
    rows = [
        {"steps": S, "error": error, **interval(error, 0.001)} for S, error in zip((2, 10, T), errors, strict=True)
    ]
    found = claims.reconstruction(record("reconstruction", {"count": 64, "rows": rows[::-1]}))
    assert found.verdict == verdict
    assert ("it rises from" in found.words) == (errors[2] > errors[1] + 0.001 or errors[1] > errors[0] + 0.001)


def test_one_error_is_no_fall(record):
    rows = [{"steps": 2, "error": 0.1, **interval(0.1, 0.01)}]
    assert claims.reconstruction(record("reconstruction", {"count": 64, "rows": rows})).verdict == "not measured"


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
def test_copies_are_more_suspicious_samples_than_chance_explains(record, changes, verdict):
    found = claims.no_copies(record("memorisation", {**results()["memorisation"], **changes}))
    assert found.verdict == verdict
    assert "No near-exact copies" in found.claim
    assert "of 500 samples" in found.words
    assert "mostly pass unseen" in found.words


def test_what_a_limit_took_away_is_listed(trained):
    folder = trained()
    leave(folder, "table1", {**results()["table1"], "cut": "a limit of 3 minutes cut S = 1000"})
    leave(folder, "likelihood", {**results()["likelihood"], "cut": ["no", "sentence"]})
    leave(folder, "evaluation", results()["evaluation"])
    assert claims.left_out(read(folder)) == ["table1: a limit of 3 minutes cut S = 1000"]
