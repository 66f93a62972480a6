"""The figures of the report in their order: of the data and the training, of sampling, and of what was measured."""

from ddim.report import along, animation, curves, diagram, levels, mosaics
from ddim.report.measured_plates import MEASURED
from ddim.report.plate import Plate, root

TRAINING, EXPERIMENTS = "ddim train", "ddim report RUN"  # the commands that make what is drawn here

_X, _X0, _EPS = "<i>x</i><sub>t</sub>", "<i>x</i><sub>0</sub>", "ε<sub>θ</sub>(<i>x</i><sub>t</sub>, <i>t</i>)"
_SIGNAL, _NOISE = root("ᾱ<sub>t</sub>"), root("1 − ᾱ<sub>t</sub>")
_PREDICTED = '<i class="hat">x</i><sub>0</sub>'
_STEP = (
    f"<i>x</i><sub>s</sub> = {root('ᾱ<sub>s</sub>')} {_PREDICTED} + "
    f"{root('1 − ᾱ<sub>s</sub> − σ²')} {_EPS} + σ <i>z</i>"
)

PLATES = (
    Plate(
        "data",
        "The data",
        "the paper’s Figures 1 and 2",
        f"Some of the training images {_X0}. Their grey levels become numbers from −1 to 1; the network never "
        "learns what they show, only what is likely.",
        TRAINING,
        mosaics.data,
    ),
    Plate(
        "forward",
        "From image to noise",
        "the paper’s Figures 3 and 4",
        f"One image and one draw of noise ε ~ N(0, I), mixed as {_X} = {_SIGNAL} {_X0} + {_NOISE} ε "
        "(DDIM, Eq. 4; DDIM’s paper writes α for our ᾱ). Any <i>t</i> is reached in one jump, so training can "
        "pick its times at random. Values outside −1 … 1 show as black or white.",
        TRAINING,
        mosaics.forward,
    ),
    Plate(
        "network",
        "The network",
        "the paper’s Figure 5",
        f"It looks at {_X} and <i>t</i> and tells the noise from the image. The squares show how large the image "
        "is in each part.",
        TRAINING,
        diagram.network,
    ),
    Plate(
        "learning",
        "Learning",
        "the paper’s Figures 6 and 7",
        f"The loss ‖ε − {_EPS}‖², a mean over pixels (the paper’s section 6; DDIM, Eq. 5 with all weights "
        "1). The held-out images are never trained on. Thick curves are of the averaged weights, the ones that "
        "sample, at times and with noise that stay the same. A held-out one that comes to lie above the other "
        "tells of images learnt by heart; the next figure tells how much of that may be chance.",
        TRAINING,
        curves.learning,
    ),
    Plate(
        "levels",
        "The loss by noise level",
        "the paper’s section 6",
        "The loss of the averaged weights in ten equal parts of [0, <i>T</i>], for held-out and for training "
        "images, at the same times and with the same noise. Below, by how much the held-out images’ is higher; the "
        "grey band is what chance makes of a single level.",
        TRAINING,
        levels.levels,
    ),
    Plate(
        "along",
        "Along the way",
        "the paper’s section 7",
        "All rows begin with the same noise, so each column is one image as the network learns. The averaged "
        "weights, the ones that sample, change calmly; the latest ones, of which they are the average, jump about.",
        TRAINING,
        along.along,
    ),
    Plate(
        "samples",
        "New images",
        "the paper’s section 8",
        f"Both start from the same noise. A step leads from <i>t</i> to an earlier <i>s</i>: {_STEP} (DDIM, "
        "Eq. 12), where η scales σ (Eq. 16). With η = 0 no noise is added, and few large steps suffice; with η = 1 "
        "this is DDPM, which wants many.",
        EXPERIMENTS,
        mosaics.samples,
    ),
    Plate(
        "strips",
        "From noise to image",
        "the paper’s section 4",
        f"Below each {_X} is the image that the network takes it for: {_PREDICTED} = ({_X} − {_NOISE} {_EPS}) / "
        f"{_SIGNAL} (DDIM, Eq. 9), clipped to −1 … 1. While the noise is strong the best guess is a blur, the "
        "average of all that is still possible; it sharpens as the noise goes. Both halves start alike.",
        EXPERIMENTS,
        mosaics.strips,
    ),
    Plate(
        "denoising",
        "The same, moving",
        "the paper’s section 4",
        "DDIM glides: its path is a curve that the noise at the start determines. DDPM jitters: it adds new noise "
        "in each step and ends elsewhere.",
        EXPERIMENTS,
        animation.denoising,
    ),
    Plate(
        "timing",
        "What a step costs",
        "the paper’s section 1",
        "Each of the <i>S</i> steps calls the network once. The dashed line is what <i>S</i> calls of the network "
        "alone cost, measured in between; the last column compares the two, as they were during that very run. A "
        "sampler that adds nothing of its own would show 1.00.",
        EXPERIMENTS,
        curves.timing,
    ),
    *MEASURED,
)
