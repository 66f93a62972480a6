"""A proof is worth what it refuses: right solvers pass, each known mistake is found by the claim that it breaks."""

import math
from functools import partial
from typing import Any

import pytest
import wrong

from ddim import samplers, verify
from ddim.errors import UserError
from ddim.samplers import DDIM, DDPM
from ddim.verify import Proof, judge, prove_identities, solvers
from ddim.verify.orders import slope
from ddim.verify.verdict import Curve

RIGHT = {"ddim": DDIM, "ddpm": DDPM, "eta": partial(DDIM, 0.5), "second": wrong.SecondOrder}


def failed(make):
    return {proof.claim for proof in judge("it", make).proofs if not proof.passed}


@pytest.mark.parametrize("name", RIGHT)
def test_right_solvers_are_proven(name):
    verdict = judge(name, RIGHT[name])
    assert verdict.passed, verdict
    assert verdict.order == RIGHT[name]().order
    worst = min(curve.order for curve in verdict.curves)
    assert worst == pytest.approx(verdict.order, abs=0.1)  # of these four the order is what is measured


@pytest.mark.parametrize(
    ("make", "broken"),
    [
        (partial(wrong.EtaForItsSquare, 0.5), {"Gaussian", "samples", "point mass"}),
        (partial(wrong.WrongNoise, 1.0), {"Gaussian"}),
        (partial(wrong.SecondOrder, 0.6), {"Gaussian", "mixture"}),
        (partial(wrong.SecondOrder, 0.0), {"Gaussian", "mixture"}),
        (wrong.CallsAtZero, {"calls"}),
        (wrong.PromisesTooFew, {"calls"}),
        (wrong.Random, {"repeat", "batch"}),
        (wrong.LooksAround, {"batch"}),
        (wrong.Clamps, {"mixture", "point mass"}),
    ],
    ids=lambda one: getattr(one, "__name__", None) or getattr(getattr(one, "func", None), "__name__", None),
)
def test_each_mistake_is_found(make, broken):
    assert broken <= failed(make)


def test_a_sampler_of_ones_own_is_judged_as_an_instance_a_class_or_a_name():
    mine = wrong.SecondOrder(0.0)
    verdict = verify.verify(mine)
    assert verdict == judge("SecondOrder(half=0.0)", lambda: wrong.SecondOrder(0.0))
    assert str(verdict).splitlines()[1].endswith("FAIL")
    assert verify.verify(DDIM) == verify.verify(DDIM(0.0))
    assert verify.verify("ddim").proofs == verify.verify(DDIM).proofs
    others: list[Any] = ["nothing", 3, dict]
    for other in others:
        with pytest.raises(UserError):
            verify.verify(other)


def test_a_step_that_ends_at_no_number_fails():
    class Nan(DDIM):
        def step(self, *args):
            x, state = super().step(*args)
            return x * math.nan, state

    assert failed(Nan) == {"Gaussian", "mixture", "point mass", "calls", "repeat", "batch"}


def test_a_family_that_is_no_number_at_eta_1_is_found():
    class NanAtOne(DDIM):
        def step(self, *args):
            x, state = super().step(*args)
            return x * (math.nan if self.eta == 1 else 1), state

    broken = [proof.claim for proof in prove_identities(NanAtOne) if not proof.passed]
    assert len(broken) == 3  # all but the claim about eta = 0


def test_an_order_that_is_no_number_on_one_ladder_is_found(monkeypatch):
    curves = [Curve("Gaussian", spacing, (20,), (0.1,), slope) for spacing, slope in (("a", 2.0), ("b", math.nan))]
    monkeypatch.setattr("ddim.verify.orders.measure", lambda make: curves)
    assert "Gaussian" in failed(DDIM)


def test_the_family_of_the_paper():
    assert all(proof.passed for proof in prove_identities())


@pytest.mark.parametrize(
    ("family", "found"),
    [(wrong.EtaForItsSquare, "is kept"), (wrong.EtaSquared, "eta times"), (wrong.WrongNoise, "posterior")],
)
def test_a_wrong_family_is_found(family, found):
    def make(eta):
        return family(eta) if eta else DDIM()

    broken = [proof.claim for proof in prove_identities(make) if not proof.passed]
    assert any(found in claim for claim in broken), broken


def test_what_is_no_number_proves_nothing():
    for need in ("least", "most"):
        assert not Proof("it", math.nan, 1.0, need).passed
    assert math.isnan(slope((20, 40, 80), (0.1, math.nan, 0.1)))


def test_a_slope_leaves_rounding_out():
    assert slope((20, 40, 80, 160), (1e-4, 1e-6, 1e-8, 3e-15)) == pytest.approx(2 / math.log10(2))
    assert slope((20, 40), (1e-16, 0.0)) == math.inf


def test_every_name_is_put_to_the_proof():
    assert set(samplers.names()) < set(solvers())
    assert {"ddim, eta = 0.5", "heun, churn = 10", "unipc, order = 2", "unipc, variant = bh1"} < set(solvers())
    with pytest.warns(DeprecationWarning, match=r"ddim\.verify\.solvers"):
        assert verify.contestants is solvers


def test_a_new_solver_and_its_variants_are_proven_without_an_edit(monkeypatch):
    Half = type("Half", (wrong.SecondOrder,), {"variants": ({"half": 0.6},)})
    monkeypatch.setitem(samplers.samplers, "half", Half)
    makers = solvers()
    assert judge("half", makers["half"]).passed
    assert not judge("half, half = 0.6", makers["half, half = 0.6"]).passed
