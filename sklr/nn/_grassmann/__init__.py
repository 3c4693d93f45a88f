"""Subspaces: the linear head of subspaces, its optimiser and their kernels."""
