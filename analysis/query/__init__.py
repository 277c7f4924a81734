"""One query of a visitor's own: a model in memory, its token states, masks, and the ranking of cached candidates.

Start reading at `query` (picture and text -> token states -> embedding under a mask) and `ranking` (embedding ->
candidates before and after an intervention). Nothing here imports torch before a model is loaded.
"""
