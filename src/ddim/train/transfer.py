"""Fine-tuning: a new model starts from the weights of another."""

from torch import nn

from ddim.errors import UserError


def transfer(source: nn.Module, network: nn.Module) -> list[str]:
    """Copy into `network` every tensor of `source` that has the same name and shape.

    So a model of other classes or channels keeps all but the layers that meet them.

    Args:
        source: a trained network.
        network: whose weights are replaced, in place.

    Returns:
        The names of the tensors that keep their new values.

    Raises:
        UserError: fewer than half of the weights fit, so that the networks are not of one kind.
    """
    given, mine = source.state_dict(), network.state_dict()
    fitting = {name: given[name] for name, own in mine.items() if name in given and given[name].shape == own.shape}
    if sum(mine[name].numel() for name in fitting) < sum(own.numel() for own in mine.values()) / 2:
        raise UserError(
            "The weights of --init belong to another kind of network; ask for the same --network and --size as its."
        )
    network.load_state_dict(mine | fitting)
    return [name for name in mine if name not in fitting]
