"""Fine-tuning starts from another model's weights, wherever they fit."""

import pytest
import torch
from PIL import Image

from ddim import model_io, nets, schedule
from ddim.denoiser import Denoiser
from ddim.errors import Notice, UserError
from ddim.train import Plan, Recipe
from ddim.train.run import train, transfer


def network(**options):
    return nets.build("plain", 1, "tiny", **options)


def test_the_same_kind_is_taken_over_whole():
    torch.manual_seed(0)
    source, new = network(), network()
    assert transfer(source, new) == []
    assert all(torch.equal(a, b) for a, b in zip(source.state_dict().values(), new.state_dict().values(), strict=True))


def test_other_classes_leave_the_label_table_alone():
    torch.manual_seed(0)
    source, new = network(classes=10), network(classes=3)
    before = new.condition.label.weight.clone()
    assert transfer(source, new) == ["condition.label.weight"]
    assert torch.equal(new.condition.label.weight, before)
    assert torch.equal(new.head.weight, source.head.weight)


def test_another_kind_is_refused_and_nothing_changes():
    new = network()
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    with pytest.raises(UserError, match="another kind of network"):
        transfer(nets.build("unet", 1, "tiny"), new)
    assert all(torch.equal(before[name], tensor) for name, tensor in new.state_dict().items())


def test_a_run_starts_where_the_other_stands(tmp_path):
    """After one update with a tiny learning rate the model is still the one it started from."""
    torch.manual_seed(1)
    source = Denoiser(network(), schedule.linear(), shape=(1, 8, 8))
    torch.nn.init.normal_(source.network.get_parameter("head.weight"))
    model_io.save(source, tmp_path / "first")
    plan = Plan(steps=1, learning_rate=1e-9, batch_size=4)
    model = train(Recipe(network="plain", size="tiny", plan=plan), tmp_path / "second", init=source).cpu()
    for new, old in zip(model.network.parameters(), source.network.parameters(), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=1e-6)


def test_a_model_of_other_channels_says_which_layers_begin_anew(tmp_path):
    source = Denoiser(network(), schedule.linear(), shape=(1, 8, 8))
    folder = tmp_path / "colours"
    folder.mkdir()
    for i in range(4):
        Image.effect_noise((8, 8), 60 + i).convert("RGB").point(lambda level: level // 2, "RGB").save(
            folder / f"{i}.png"
        )
    Image.new("RGB", (8, 8), "red").save(folder / "red.png")
    recipe = Recipe(data=str(folder), network="plain", size="tiny", plan=Plan(steps=1, batch_size=2))
    with pytest.warns(Notice, match=r"trained on images of 1 channel, and these have 3: .*head\.weight"):
        train(recipe, tmp_path / "run", init=source)
    with pytest.warns(Notice, match=r"has 4 training images, which .* --init airplanes and few --steps"):
        train(recipe, tmp_path / "run", overwrite=True)
