"""RetrievalLens: sparse-autoencoder analysis of multimodal retrieval. See README.md for the map of the package."""

__version__ = "0.1.0"
