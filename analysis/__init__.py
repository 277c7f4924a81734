"""RetrievalLens: sparse-autoencoder analysis of multimodal retrieval. See README.md for the map of the package."""

__version__ = "0.1.0"
CACHE = "cache"  # the folder of stores, in the working directory unless the variable names another one
CACHE_VARIABLE = "RETRIEVALLENS_CACHE"
