"""Grey levels on the real line: level v of G stands at x0 = 2 v / (G - 1) - 1, as in `ddim.data.Images`.

Neighbours are 2 / (G - 1) apart, and v's cell is the interval of that width around x0. The cells tile the line from
half a cell below -1 to half a cell above 1.
"""


def half_width(grey_levels: int) -> float:
    """Half of a cell, 1 / (G - 1)."""
    return 1 / (grey_levels - 1)
