"""Bootstrap algebraic multigrid of attributed graphs: the parts of its two estimators."""
