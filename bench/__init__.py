"""Measure the gateway against floors of the same run on the same machine: ``make bench``."""
