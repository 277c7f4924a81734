"""Speed against the peers and the plain form: `python -m analysis bench NAME`. One module a bench, each with
`run(quick) -> Iterator[Row]`; the case names are fixed so that figures can be compared over time."""

BENCHES = ("sae", "scores", "encode", "retrieval", "extract", "pages", "load")
