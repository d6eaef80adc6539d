"""The training loop, its log, and ensembles of runs in one program."""
