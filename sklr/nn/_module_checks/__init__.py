"""Checks of everything that is fitted on a network, and the networks that they use."""
