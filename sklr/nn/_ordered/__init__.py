"""Layers whose columns are in an order of importance, so that one training serves every size."""
