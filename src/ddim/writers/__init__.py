"""Write many images batch by batch, into a folder of PNG files or one array, in constant memory.

What a killed command has written stays, and the same request continues it.
"""

from ddim.writers.arrays import Npy, Npz
from ddim.writers.base import Request, Writer
from ddim.writers.folder import BLOCK, PngFolder

__all__ = ["ARRAYS", "BLOCK", "Npy", "Npz", "PngFolder", "Request", "Writer"]

ARRAYS = {".npy": Npy, ".npz": Npz}
"""suffix of a file -> its writer."""
