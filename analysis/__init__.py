"""RetrievalLens: sparse-autoencoder analysis of multimodal retrieval. See README.md for the map of the package."""

import os

# While no product runs, OpenBLAS's threads wait for the next one by spinning for 2^26 cycles each time, on the cores that
# everything else needs: a curve with its control took two to three times as long with two threads as with one. It reads
# this when NumPy is imported.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")

__version__ = "0.1.0"
CACHE = "cache"  # the folder of stores, in the working directory unless the variable names another one
CACHE_VARIABLE = "RETRIEVALLENS_CACHE"
