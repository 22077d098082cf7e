"""Texts and values from outside, made fit to show: bounded, valid, and without secrets."""
