"""The experiments of a reproduction, on a small random network and scikit-learn's digits."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ddim import experiments, open_images, report, schedule
from ddim.data import to_uint8
from ddim.errors import Notice, UserError
from ddim.evaluate import get
from ddim.evaluate.features import features
from ddim.evaluate.frechet import frechet, gaussian
from ddim.evaluate.real import of_splits
from ddim.experiments import consistency, table1_grid
from ddim.experiments import experiments as registry
from ddim.experiments.results import keep
from ddim.experiments.results import read as read_result
from ddim.experiments.table1_grid import EXTENTS, STEPS, Extent, GridCell, cells, changes
from ddim.run_folder import read

SMALL = (Extent(40, 40, (5, 10), ("0", "hat"), ("linear", "quadratic")),)


@pytest.fixture
def setup(tmp_path, model):
    return experiments.Setup(tmp_path, model, open_images("digits"), open_images("digits", split="test"))


def test_the_report_can_read_what_every_experiment_leaves(setup):
    names = experiments.runnable()
    assert list(experiments.run(setup, minutes=0.01, names=names)) == names
    run = read(setup.folder)
    assert set(names) <= run.results.keys()
    assert len(report.verdict(setup.folder)) == 6
    for name, facts in run.facts.items():
        if isinstance(facts.get("rows"), list):
            with (setup.folder / f"results/{name}.csv").open() as file:
                assert len(list(csv.DictReader(file))) == len(facts["rows"])


def test_what_a_limit_has_cut_is_made_whole_when_asked(setup, monkeypatch):
    monkeypatch.setattr(consistency, "STEPS", (5, 10, 20))
    facts = setup.folder / "results/consistency.json"
    list(experiments.run(setup, minutes=1e-6, names=["consistency"]))
    assert "at most 10 steps" in json.loads(facts.read_text())["cut"]
    list(experiments.run(setup, names=["consistency"]))
    assert "at most 10 steps" in json.loads(facts.read_text())["cut"]
    list(experiments.run(setup, names=["consistency"], whole=True))
    assert json.loads(facts.read_text())["cut"] is None


def test_copies_are_looked_for_again_when_there_are_more_samples(setup, monkeypatch):
    """A limit that cuts the evaluation cuts what looks at its samples too."""
    names = ("evaluation", "memorisation")
    monkeypatch.setattr(experiments.memorisation, "COUNT", 100)

    def found():
        facts = json.loads((setup.folder / "results/memorisation.json").read_text())
        return facts["count"], facts["cut"]

    monkeypatch.setattr(experiments.evaluation, "COUNTS", (200, 40))
    list(experiments.run(setup, minutes=1e-6, names=names))
    assert found() == (40, "the evaluation has only 40 samples, where 100 were wanted")
    list(experiments.run(setup, names=names, whole=True))
    assert found() == (100, None)


def test_no_more_samples_are_scored_than_the_floor_has(setup):
    """Two thirds of the training images: draws that share more tell little of each other."""
    whole, _ = registry["evaluation"].run(setup)
    assert (whole.count, whole.floor_count, whole.cut) == (1000, 1000, None)
    cut, _ = registry["evaluation"].run(setup, 1e-6)
    assert (cut.count, cut.floor_count) == (200, 200)
    assert "from 1,000 to 200 images" in cut.cut


def test_an_experiment_that_needs_images_asks_for_them(tmp_path, model):
    with pytest.raises(UserError, match="'likelihood' needs the images"):
        list(experiments.run(experiments.Setup(tmp_path, model), names=["likelihood"]))


def test_the_estimate_counts_the_calls_that_are_made(setup, monkeypatch):
    """Of the experiments whose network calls can be counted one by one: as many as `calls` says."""
    monkeypatch.setattr(table1_grid, "EXTENTS", SMALL)
    monkeypatch.setattr(experiments.evaluation, "COUNTS", (64,))
    monkeypatch.setattr(experiments.reconstruction, "COUNTS", (16,))
    made = []
    setup.model.network.register_forward_hook(lambda _, inputs, __: made.append(len(inputs[0])))
    for name in ("gallery", "strips", "consistency", "interpolation", "solvers", "reconstruction", "evaluation"):
        made.clear()
        list(experiments.run(setup, names=[name]))
        assert sum(made) == registry[name].calls(setup.model), name
    made.clear()
    list(experiments.run(setup, names=["table1"]))
    assert sum(made) == registry["table1"].calls(setup.model)


def test_consistency_measures_against_the_largest_s(setup, monkeypatch):
    monkeypatch.setattr(consistency, "STEPS", (5, 10, 20))
    result, samples = registry["consistency"].run(setup)
    images = {S: setup.model.sample(8, steps=S, eta=0.0) for S in (5, 10, 20)}
    for row, pixels in zip(result.rows, samples["images"], strict=True):
        assert torch.equal(pixels, to_uint8(images[row.steps]))
        assert row.rms == pytest.approx(float((images[row.steps] - images[20]).square().mean().sqrt()))
    apart = [float((images[20][i] - images[20][j]).square().mean()) for i in range(8) for j in range(8) if i != j]
    assert result.between == pytest.approx((sum(apart) / len(apart)) ** 0.5, rel=1e-5)


@pytest.mark.parametrize(("T", "longest"), [(5, [5]), (20, [10, 20]), (1000, [500, 1000]), (4000, [500, 1000])])
def test_consistency_takes_no_number_of_steps_twice(save_model, T, longest):
    assert consistency.steps_of(save_model(T=T))[-2:] == longest


@pytest.mark.parametrize("classes", [None, 3])
def test_interpolation_ends_in_the_samples_of_its_noises(tmp_path, save_model, classes):
    model = save_model(classes=classes)
    result, samples = registry["interpolation"].run(experiments.Setup(tmp_path, model))
    drawn = samples["images"]
    assert drawn.shape == (result.rows, result.columns, 1, 8, 8)
    labels = None if classes is None else [row % 3 for row in range(6) for _ in range(2)]
    ends = model.sample(12, steps=result.steps, eta=0.0, labels=labels)
    assert torch.equal(drawn[:, [0, -1]].flatten(0, 1), to_uint8(ends))
    halfway = drawn[:, 5].float()
    assert all((halfway - drawn[:, side].float()).abs().mean() > 1 for side in (0, -1))


def test_reconstruction_shows_what_it_measures(setup):
    result, samples = registry["reconstruction"].run(setup)
    drawn = samples["images"]
    assert len(drawn) == 1 + len(result.rows)
    some = setup.test.batch(torch.arange(8) * len(setup.test) // 8)[0]
    assert torch.equal(drawn[0], to_uint8(some))
    steps = result.rows[0].steps
    xT = setup.model.encode(some, steps=steps, spacing="linear")
    assert torch.equal(drawn[1], to_uint8(setup.model.decode(xT, steps=steps, spacing="linear")))
    assert all(0 <= row.low < row.error < row.high for row in result.rows)


def test_the_report_can_read_a_likelihood_without_a_flow(setup, monkeypatch):
    """A schedule that ends in noise alone, alpha_T = 0, has the bound."""
    monkeypatch.setattr(experiments.likelihood, "COUNTS", (8,))
    setup.model.schedule = schedule.from_betas(torch.linspace(0.01, 1, 20, dtype=torch.float64))
    one = registry["likelihood"]
    result, samples = one.run(setup)
    assert result.flow is None
    keep(setup.folder, one, "these", result, samples)
    assert read_result(setup.folder, one).result == result
    assert "does not apply to this model" in one.note(result, setup.model)


def test_the_whole_grid_is_that_of_the_paper():
    grid = cells(EXTENTS[0], T=1000)
    assert {(c.steps, c.eta) for c in grid} == {
        (S, eta) for S in (10, 20, 50, 100, 1000) for eta in ("0", "0.2", "0.5", "1", "hat")
    }
    assert {c.count for c in grid} == {1000}
    assert len(grid) == len(set(grid)) == 45  # at S = T both spacings are the same
    cut = cells(EXTENTS[2], T=1000)
    assert [c for c in cut if c.steps == 1000] == [GridCell("linear", 1000, "0", 128)]


@pytest.mark.parametrize("T", [100, 1000, 4000])
def test_what_is_taken_last_costs_least(T):
    """It is what a limit that nothing fits into comes to."""
    costs = [sum(cell.steps * cell.count for cell in cells(extent, T)) for extent in EXTENTS]
    assert costs == sorted(set(costs), reverse=True)


@pytest.mark.parametrize("extent", EXTENTS)
@pytest.mark.parametrize("T", [20, 60, 1000])
def test_no_cut_leaves_an_s_out(extent, T):
    """Without T / 10 nobody could say whether ten times fewer steps are as good."""
    grid = cells(extent, T)
    for spacing in extent.spacings:
        there = {c.steps for c in grid if c.eta == "0" and c.spacing == spacing}
        assert there - {T} == {S for S in STEPS if S < T}
    costs = [c.steps * c.count for c in grid]
    assert costs == sorted(costs)
    assert len(grid) == len(set(grid))


def test_a_cut_grid_says_which_steps_have_one_eta():
    last = EXTENTS[-1]
    assert {cell.eta for cell in cells(last, 1000) if cell.steps == 1000} == {"0"}
    assert "to 64 images and eta = 0 where S = 50 or 100 or T" in changes(EXTENTS[0], last, 1000)
    assert "to 200 images and eta = 0 where S = T" in changes(*EXTENTS[:2], 1000)
    assert changes(EXTENTS[0], EXTENTS[0], 1000) == []


def test_the_distances_of_the_grid_are_those_of_its_samples(setup, monkeypatch):
    monkeypatch.setattr(table1_grid, "EXTENTS", SMALL)
    result, _ = registry["table1"].run(setup)
    rows = result.rows
    assert len(rows) == 2 * 2 * 2 + 2
    eye = get("digits", (1, 8, 8))
    reference = gaussian(features(eye, setup.test))
    for row in rows[:3] + rows[-1:]:
        eta = 0.0 if row.eta == "0" else "hat"
        images = setup.model.sample(40, steps=row.steps, eta=eta, spacing=row.spacing)
        own = gaussian(features(eye, to_uint8(images)))
        assert row.frechet == pytest.approx(frechet(own, reference))
        assert row.low < row.frechet < row.high
        assert row.few == row.frechet  # all of them
        assert row.excess == pytest.approx(row.frechet - rows[8].frechet)
    assert (rows[8].excess, rows[8].excess_high) == (0, 0)  # S = T and eta = 0 themselves
    assert result.floor.low < result.floor.value < result.floor.high < rows[0].frechet


def test_new_images_lie_in_the_floor_of_a_small_pool(setup, monkeypatch):
    """Draws of 200 from a pool of 300 are much alike, and less unlike than new images are: 95 in 100 lie there."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(20):
        sets = {len(setup.train): rng.standard_normal((300, 4)), len(setup.test): rng.standard_normal((2000, 4))}
        monkeypatch.setattr(table1_grid, "cached_features", lambda _, images, sets=sets: sets[len(images)])
        score = table1_grid.Score(of_splits(setup.train, setup.test))
        floor = score.floor(200)
        new = [frechet(gaussian(rng.standard_normal((200, 4))), score.gaussian) for _ in range(20)]
        inside += [floor.low <= one <= floor.high for one in new]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.04)


def rows(images, indices):
    """Some images of a data set."""
    return replace(images, pixels=images.pixels[indices], labels=images.labels[indices])


def test_few_images_are_measured_by_the_training_images_and_fewer_features(tmp_path, model, monkeypatch):
    """10 held-out digits are too few for the 32 features of the classifier; 60 training digits suffice for fewer."""
    monkeypatch.setattr(table1_grid, "EXTENTS", SMALL)
    monkeypatch.setattr(experiments.evaluation, "COUNTS", (200, 40))
    train, test = (open_images("digits", split=split) for split in ("train", "test"))
    few = experiments.Setup(tmp_path, model, rows(train, torch.arange(60)), rows(test, torch.arange(10)))
    with pytest.warns(Notice, match="10 held-out images, too few for the 32 features of digits"):
        assert set(experiments.run(few, names=["evaluation", "table1", "memorisation"])) >= {"evaluation", "table1"}
    evaluation, table = (read_result(tmp_path, registry[name]).result for name in ("evaluation", "table1"))
    assert (evaluation.count, evaluation.floor_count, evaluation.reference_count) == (30, 30, 60)
    assert (table.reference_count, table.extractor) == (60, "scattering-small")
    assert table.floor.low < table.floor.value < table.floor.high
    for name, result in (("evaluation", evaluation), ("table1", table)):
        assert result.reference["split"] == "train"
        assert "too few for the 32 features" in registry[name].tables(result)[-1].note


@pytest.mark.parametrize("name", ["likelihood", "reconstruction"])
def test_one_held_out_image_has_no_interval(setup, name):
    one = replace(setup, test=rows(setup.test, torch.arange(1)))
    with pytest.raises(UserError, match="digits has 1 held-out image, and an interval needs 2"):
        registry[name].run(one)


def test_classes_are_sampled_as_often_as_in_the_held_out_images(tmp_path, save_model, monkeypatch):
    monkeypatch.setattr(table1_grid, "EXTENTS", SMALL)
    monkeypatch.setattr(experiments.evaluation, "COUNTS", (40,))
    train, test = (open_images("digits", split=split).select([3, 8]) for split in ("train", "test"))
    threes = (test.labels == 0).nonzero().flatten()
    uneven = rows(test, torch.cat([threes[:10], (test.labels == 1).nonzero().flatten()]))
    model, asked = save_model(classes=2), []
    sample = model.sample

    def record(count, *, labels, **options):
        asked.append(labels.double().mean().item())
        return sample(count, labels=labels, **options)

    monkeypatch.setattr(model, "sample", record)
    setup = experiments.Setup(tmp_path, model, train, uneven)
    list(experiments.run(setup, names=["evaluation", "table1"]))
    share = uneven.labels.double().mean().item()
    assert abs(share - 0.5) > 0.2
    assert asked == pytest.approx([share] * len(asked), abs=0.03)
    for name in ("evaluation", "table1"):
        result = read_result(tmp_path, registry[name]).result
        assert result.classes == "as often as in the reference"
        assert "as often as in the reference" in registry[name].tables(result)[-1].note


def test_an_interrupted_grid_goes_on_with_the_next_cell(setup, monkeypatch):
    monkeypatch.setattr(table1_grid, "EXTENTS", SMALL)
    made = []

    def stop(_, inputs, __):
        made.append(len(inputs[0]))
        if len(made) == 25:  # in the fourth cell, each of them 5 steps of a single batch: 3 are kept after 15
            raise KeyboardInterrupt

    hook = setup.model.network.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        list(experiments.run(setup, names=["table1"]))
    kept = {path: path.stat().st_mtime_ns for path in (setup.folder / "samples/table1").iterdir()}
    assert kept
    hook.remove()
    list(experiments.run(setup, names=["table1"]))
    assert kept.items() <= {p: p.stat().st_mtime_ns for p in (setup.folder / "samples/table1").iterdir()}.items()
