"""scikit-learn estimators with networks inside (fitting them needs the extra ``torch``)."""

__all__: list[str] = []
