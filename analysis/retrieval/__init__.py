"""Retrieval over embeddings: search, recall, interventions, controls and what explains them.

Arrays in, arrays or a named result out; NumPy and SciPy only (torch and numba are imported inside the functions that
need them). Start reading at `search`, `interventions` and `evaluate`.
"""
