"""Spectra over the steps of a training."""
