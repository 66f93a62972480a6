"""`ddim list`: every registered name is listed, with one sentence."""

import functools

import pytest
from refusal import refused

from ddim import nets, samplers, schedule, timesteps
from ddim.cli import main
from ddim.cli.names import KINDS, described, first_sentence
from ddim.data import names as data_names
from ddim.evaluate.extractors import names as extractor_names
from ddim.train import recipe


def test_all_kinds_are_listed(capsys):
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [f"{kind}:" for kind in KINDS]
    shown = [line.split()[0] for line in lines if line.startswith(" ")]
    assert {"unipc", "log-snr", "cosine", "unet", "v", "min-snr", "cifar10", "inception", "table1"} <= set(shown)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("samplers", samplers.names()),
        ("spacings", timesteps.names()),
        ("schedules", schedule.names()),
        ("networks", nets.names()),
        ("data", data_names()),
        ("extractors", extractor_names()),
        ("recipes", recipe.names()),
        ("models", ["airplanes", "mnist", "mnist-turbo"]),
    ],
)
def test_a_kind(kind, names, capsys):
    main(["list", kind])
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading == f"{kind}:"
    assert [line.split()[0] for line in lines] == list(names)
    for name, sentence in described(kind):
        assert len(sentence.split()) > 1, name
        assert "\n" not in sentence


def test_an_unknown_kind(capsys):
    assert "'solvers' (did you mean 'samplers'?); choose one of samplers, spacings" in refused(
        capsys, "list", "solvers"
    )


def test_first_sentences():
    def function(x=0):
        """Return x (e.g. 1.5, see
        Eq. 9). Then more."""

    class Undocumented(dict):
        pass

    class Colon:
        """An update:

        x = y
        """

    assert first_sentence(function) == "Return x (e.g. 1.5, see Eq. 9)."
    assert first_sentence(functools.partial(function, 1)) == "Return x (e.g. 1.5, see Eq. 9)."
    assert first_sentence(Undocumented) == ""
    assert first_sentence(Colon) == first_sentence(Colon()) == "An update"
    assert first_sentence(lambda: 0) == ""
