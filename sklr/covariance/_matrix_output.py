"""What transformers have in common whose output is a stack of matrices."""

from sklearn.base import TransformerMixin


class MatrixTransformerMixin(TransformerMixin):
    """A transformer from stacks to stacks of matrices, which no table holds."""

    def set_output(self, *, transform=None):
        """Accept a container setting, so that a whole Pipeline can be set; without effect here.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"} or None, default=None
            Ignored: matrices do not fit a table.

        Returns
        -------
        self : estimator
            The transformer.
        """
        allowed = ("default", "pandas", "polars", None)
        if transform not in allowed:
            raise ValueError(f"transform must be one of {allowed}, got {transform!r}.")
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags
