"""The figures: what xproxy costs beside its peers, in one run on one machine. Start with ``python bench/run.py``."""
