"""The figures of what `ddim reproduce` measures, in their order: those of DDIM's paper, and some more."""

from ddim.report import beside, copies, evaluation, frechet, latents, likelihood, reconstruction, solvers
from ddim.report.plate import Plate, root

REPRODUCTION, VERIFICATION = "ddim reproduce RECIPE", "ddim verify RUN"  # make what is drawn here
COMPARISON = "ddim compare RUN OTHERS --report"

MEASURED = (
    Plate(
        "table1",
        "Quality against steps",
        "DDIM, Table 1",
        "The Fréchet distance between Gaussians fitted to the features of samples and of real images, "
        f"‖μ − μ′‖² + tr(Σ + Σ′ − 2 {root('ΣΣ′')}) (arXiv 1706.08500, Eq. 6), the lower the better. η scales the "
        f"noise that a step adds, σ = η {root('(1 − ᾱ<sub>s</sub>) / (1 − ᾱ<sub>t</sub>)')} "
        f"{root('1 − ᾱ<sub>t</sub> / ᾱ<sub>s</sub>')} (DDIM, Eq. 16); σ̂ is DDPM’s larger one, "
        f"{root('1 − ᾱ<sub>t</sub> / ᾱ<sub>s</sub>')} (appendix D.3). The linear ladder takes times "
        "⌊<i>c i</i>⌋, the quadratic one ⌊<i>c i</i>²⌋ (appendix D.2). Bars are 95% intervals by resampling; the "
        "band is where 95 in 100 draws of as many real images lie. Fewer images give a larger distance by "
        "themselves, and so only equal numbers compare.",
        REPRODUCTION,
        frechet.frechet,
    ),
    Plate(
        "consistency",
        "The same noise, more steps",
        "DDIM, Figure 5",
        "Each column begins with the same <i>x</i><sub>T</sub> and takes <i>S</i> steps of DDIM (Eq. 12 with "
        "σ = 0). All of them solve the same ordinary differential equation (Eq. 14), and so few steps lead to "
        "about the image that many do. The numbers are root mean squares over pixels from −1 to 1.",
        REPRODUCTION,
        latents.consistency,
    ),
    Plate(
        "interpolation",
        "From one image to another",
        "DDIM, Figure 6",
        "A row goes from one noise to another along the great circle between them, <i>x</i><sub>T</sub> = "
        "(sin((1 − α)θ) <i>x</i><sub>T</sub><sup>(0)</sup> + sin(αθ) <i>x</i><sub>T</sub><sup>(1)</sup>) / sin θ "
        "with θ the angle between them (DDIM, appendix D.5; its α is the number above). All that lies between is "
        "as likely as the ends, and what DDIM makes of it changes smoothly.",
        REPRODUCTION,
        latents.interpolation,
    ),
    Plate(
        "reconstruction",
        "There and back again",
        "DDIM, Table 2",
        "Held-out images, encoded by <i>S</i> steps of the same equation backwards (DDIM, Eqs. 13 and 14), from "
        "<i>t</i> = 0 up the linear ladder, and decoded by as many forwards. The error is a mean square over "
        "pixels from 0 to 1; bars are 95% intervals.",
        REPRODUCTION,
        reconstruction.reconstruction,
    ),
    Plate(
        "likelihood",
        "How likely the model thinks images it has not seen",
        "DDPM, Table 1",
        "Bits per dimension, −log<sub>2</sub> <i>p</i>(<i>x</i><sub>0</sub>) / (<i>C H W</i>), of held-out images, "
        "the lower the better. The bound is <i>L</i><sub>T</sub> + Σ <i>L</i><sub>t−1</sub> + <i>L</i><sub>0</sub> "
        "(arXiv 2006.11239, Eq. 5), whose terms stand on the left by <i>t</i>. The flow integrates the divergence "
        "along DDIM’s equation, log <i>p</i>(<i>x</i><sub>0</sub>) = log <i>p</i>(<i>x</i><sub>T</sub>) + "
        "∫ ∇·<i>f</i> d<i>t</i> (arXiv 2011.13456, Eq. 39); how little half as many steps change it tells how "
        "exact that is. A schedule with ᾱ<sub>T</sub> = 0 has the bound alone. Bars are 95% intervals.",
        REPRODUCTION,
        likelihood.likelihood,
    ),
    Plate(
        "solvers",
        "Other solvers of the same equation",
        "DDIM, section 4.3 and Eq. 14",
        "DDIM is Euler’s method for an ordinary differential equation (DDIM, Eq. 14); methods of higher order "
        "get nearer to where it leads with as many network calls. Each panel is one of them, and the distance a "
        "root mean square over pixels from −1 to 1. In the grey band the endpoint’s own error counts.",
        VERIFICATION,
        solvers.measured,
    ),
    Plate(
        "evaluation",
        "The samples, judged",
        "not in the paper",
        "How far the samples are from real images: Fréchet distance (arXiv 1706.08500, Eq. 6) and kernel distance "
        "(KID, arXiv 1801.01401, section 4); precision, the share of samples that lie among the real images, and "
        "recall, that of real images among samples (arXiv 1904.06991, Eq. 2); density and coverage, the "
        "same with less heed to outliers (arXiv 2002.09797, section 3.2). Beside each figure stands what "
        "real images come to in place of the samples.",
        REPRODUCTION,
        evaluation.evaluation,
    ),
    Plate(
        "compare",
        "Beside other models",
        "not in the paper",
        "The first images of each; all models begin with the same noise. In order of how far the Fréchet distance "
        "lies above that of as many real images, the least first.",
        COMPARISON,
        beside.beside,
    ),
    Plate(
        "memorisation",
        "Copies?",
        "not in the paper",
        "The most suspicious samples, and beside each its nearest training images. Suspicious is a sample that "
        "lies by one training image as by no other: the distance to it, over the mean of those to the next ones "
        "(after arXiv 2301.13188, section 5.1), is lower than nearly all held-out images have it. A model that "
        "learnt by heart also makes samples that lie nearer to the training set than held-out images do (arXiv "
        "2004.05675).",
        REPRODUCTION,
        copies.copies,
    ),
)
