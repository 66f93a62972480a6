"""What `ddim report` refuses, before it computes anything."""

import json

import pytest
from refusal import refused

from ddim import report
from ddim.errors import UserError
from madeup import only_known, trained  # noqa: F401 - fixtures


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([""], "The path is empty"),
        (["FOLDER", "--digest", ""], "The path is empty"),
        (["mnist"], "`ddim reproduce mnist --model mnist`"),
    ],
)
def test_folders_that_cannot_be_are_refused(trained, monkeypatch, tmp_path, capsys, arguments, said):  # noqa: F811
    one = trained()
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, "report", *(word.replace("FOLDER", str(one)) for word in arguments))
    assert not (one / "results").exists()


def test_a_folder_that_may_not_be_written_is_refused_before_anything_is_computed(
    trained,  # noqa: F811
    monkeypatch,
    capsys,
):
    one = trained()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr("ddim.experiments.run", lambda *_, **__: pytest.fail("computed"))
    assert "may not be written" in refused(capsys, "report", one)


@pytest.mark.parametrize("changes", [{"sampling": None}, {"shape": "x"}, {"network": {"name": 3}}, {"schedule": []}])
def test_a_config_that_describes_no_model_is_refused_in_one_sentence(trained, capsys, changes):  # noqa: F811
    one = trained()
    path = one / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(UserError, match=r"config\.json"):
        report.write(one)
    assert "config.json" in refused(capsys, "report", one)
    assert not (one / "report.html").exists()
