"""The command `ddim`. Nothing here imports torch, so that `ddim --help` answers at once."""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from ddim.cli.report import Report
from ddim.cli.reproduce import Reproduce
from ddim.cli.sample import Sample
from ddim.cli.train import Train
from ddim.errors import UserError

DESCRIPTION = """Denoising Diffusion Implicit Models on small images.

  ddim reproduce digits --quick        train, sample and report, in minutes
  ddim train mnist --minutes 30        a run of your own, in runs/mnist
  ddim sample runs/mnist --steps 20    new images, in 20 network calls each
  ddim report runs/mnist               the run as a page, with figures"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exits with 2 and one sentence where the user asked for what cannot be, 130 on Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments == ["--version"]:
            from ddim.environment import versions

            print("\n".join(f"{name} {version}" for name, version in versions().items()))
        else:
            _parse(arguments).run()
    except UserError as error:
        print(f"ddim: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("ddim: interrupted; what was finished is kept.", file=sys.stderr)
        raise SystemExit(130) from None


def _parse(arguments: list[str]) -> Train | Sample | Reproduce | Report:
    # What is trained decides the defaults of all other flags, so it is read before them.
    named = arguments[:1] == ["train"] and len(arguments) > 1 and not arguments[1].startswith("-")
    own_limit = any(one.split("=")[0] in ("--epochs", "--steps", "--minutes") for one in arguments)
    train = Train.default(arguments[1] if named else "digits", own_limit)
    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=train)]
        | Annotated[Sample, tyro.conf.subcommand("sample")]
        | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
        | Annotated[Report, tyro.conf.subcommand("report")]
    )
    return tyro.cli(
        commands, prog="ddim", description=DESCRIPTION, args=arguments, config=(tyro.conf.OmitArgPrefixes,)
    )
