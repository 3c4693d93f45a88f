"""Layers and functions of symmetric positive definite matrices."""
