"""From the words of a command line to a command. Nothing here imports torch, so that `--help` answers at once."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from ddim.cli.compare import Compare
from ddim.cli.evaluate import Evaluate
from ddim.cli.inspect import Inspect
from ddim.cli.report import Report
from ddim.cli.reproduce import Reproduce
from ddim.cli.sample import Sample
from ddim.cli.train import Train
from ddim.cli.verify import Verify

DESCRIPTION = """Denoising Diffusion Implicit Models on small images.

  ddim reproduce digits --quick        train, sample and report, in minutes
  ddim inspect photos/                 what a folder of yours holds, before training on it
  ddim train mnist --minutes 30        a run of your own, in runs/mnist
  ddim sample runs/mnist --steps 20    new images, in 20 network calls each
  ddim report runs/mnist               the run as a page, with figures
  ddim evaluate runs/mnist             how near its samples are to real images
  ddim compare runs/a runs/b           several of them, ranked
  ddim verify                          every solver, proven; with a run: which to choose
  ddim --version                       what is installed"""

Command = Train | Inspect | Sample | Reproduce | Report | Evaluate | Compare | Verify


@dataclass(frozen=True)
class Version:
    """`ddim --version`."""

    def run(self) -> None:
        from ddim.environment import versions

        print("\n".join(f"{name} {version}" for name, version in versions().items()))


def parse(arguments: list[str]) -> Command | Version:
    """The command that the arguments ask for. Raises `UserError` or exits, with 2, if there is none such."""
    if arguments == ["--version"]:
        return Version()
    command = _read(arguments, Train())
    if isinstance(command, Train):  # what is trained decides the defaults of all other flags: read those again
        own_limit = any(one.split("=")[0] in ("--epochs", "--steps", "--minutes") for one in arguments)
        there = command.resume and (command.folder / "config.json").is_file()
        command = _read(arguments, Train.default(command.what, command.folder if there else None, own_limit))
    return command


def _read(arguments: list[str], train: Train) -> Command:
    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=train)]
        | Annotated[Inspect, tyro.conf.subcommand("inspect")]
        | Annotated[Sample, tyro.conf.subcommand("sample")]
        | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Compare, tyro.conf.subcommand("compare")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
    )
    return tyro.cli(
        commands, prog="ddim", description=DESCRIPTION, args=arguments, config=(tyro.conf.OmitArgPrefixes,)
    )
