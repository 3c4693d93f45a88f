"""Convolutions over the plane and a group of its linear maps."""
