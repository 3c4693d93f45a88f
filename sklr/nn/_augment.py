"""Random views of samples: what a representation shall not depend on."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

Augmentation = Callable[[torch.Tensor, torch.Generator | None], torch.Tensor]


def _uniform(
    x: torch.Tensor, shape: tuple[int, ...], low: float, high: float, generator: Any
) -> torch.Tensor:
    """Draw where the generator lives, so that a seed means the same on each device."""
    device = x.device if generator is None else generator.device
    drawn = torch.rand(shape, generator=generator, device=device, dtype=torch.float32)
    return (low + (high - low) * drawn).to(x)


def _range(value: Any, name: str) -> tuple[float, float]:
    low, high = value
    if not 0 < low <= high:
        raise ValueError(f"{name} must be two numbers with 0 < low <= high, got {value!r}")
    return float(low), float(high)


class RandomViews(torch.nn.Module):
    """Several random views of each sample, adjacent to each other.

    Parameters
    ----------
    augmentations : callable or iterable of callable
        Each is called with a batch of samples and a generator, and returns the batch changed;
        the modules of this file are such, and they are applied in turn.
    n_views : int, default=4
        Views of each sample.

    See Also
    --------
    MMCRLoss : The loss that takes embeddings in this order.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import GaussianNoise, RandomViews
    >>> views = RandomViews(GaussianNoise(0.1), n_views=3)
    >>> views(torch.zeros(5, 2), torch.Generator().manual_seed(0)).shape
    torch.Size([15, 2])
    """

    def __init__(
        self, augmentations: Augmentation | Iterable[Augmentation], n_views: int = 4
    ) -> None:
        super().__init__()
        if n_views < 1:
            raise ValueError(f"n_views must be at least 1, got {n_views!r}")
        given = [augmentations] if callable(augmentations) else list(augmentations)
        self.n_views = n_views
        self.augmentations = given
        self._submodules = torch.nn.ModuleList(
            [one for one in given if isinstance(one, torch.nn.Module)]
        )

    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Make the views.

        Parameters
        ----------
        x : Tensor of shape (n_samples, ...)
            The samples.
        generator : torch.Generator, default=None
            Where random numbers come from; None is torch's global generator.

        Returns
        -------
        views : Tensor of shape (n_samples * n_views, ...)
            Views ``k * n_views`` to ``(k + 1) * n_views - 1`` are of sample k.
        """
        views = x.repeat_interleave(self.n_views, dim=0)
        for augmentation in self.augmentations:
            views = augmentation(views, generator)
            if not isinstance(views, torch.Tensor):
                raise TypeError(f"augmentations must return a tensor, got {type(views).__name__}")
        if len(views) != len(x) * self.n_views:
            raise ValueError(
                f"augmentations made {len(views)} samples of {len(x) * self.n_views}; they must "
                "keep the number of samples"
            )
        return views


class GaussianNoise(torch.nn.Module):
    """Additive Gaussian noise.

    Parameters
    ----------
    scale : float or Tensor, default=0.1
        Standard deviation; a tensor is broadcast against a sample.

    See Also
    --------
    RandomViews : Several views of each sample.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import GaussianNoise
    >>> noise = GaussianNoise(0.1)(torch.zeros(1000, 3), torch.Generator().manual_seed(0))
    >>> round(float(noise.std()), 2)
    0.1
    """

    scale: torch.Tensor

    def __init__(self, scale: float | torch.Tensor = 0.1) -> None:
        super().__init__()
        scale = torch.as_tensor(scale, dtype=torch.float32)
        if not (torch.isfinite(scale).all() and (scale >= 0).all()):
            raise ValueError(f"scale must be finite and not negative, got {scale}")
        self.register_buffer("scale", scale)

    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Add noise.

        Parameters
        ----------
        x : Tensor of shape (n_samples, ...)
            The samples.
        generator : torch.Generator, default=None
            Where random numbers come from; None is torch's global generator.

        Returns
        -------
        noisy : Tensor of shape (n_samples, ...)
            The samples with noise.
        """
        device = x.device if generator is None else generator.device
        noise = torch.randn(x.shape, generator=generator, device=device, dtype=torch.float32)
        return x + noise.to(x) * self.scale.to(x)


class FeatureDropout(torch.nn.Module):
    """Features that are hidden at random; the others stay as they are.

    Parameters
    ----------
    p : float, default=0.2
        Probability that an entry is hidden.
    fill : float or Tensor, default=0.0
        What a hidden entry shows; a tensor (the mean of each feature) is broadcast against a
        sample.

    See Also
    --------
    torch.nn.Dropout : Scales what is left, and does nothing in eval mode.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import FeatureDropout
    >>> x = FeatureDropout(0.2)(torch.ones(1000, 10), torch.Generator().manual_seed(0))
    >>> round(float(x.mean()), 1)
    0.8
    """

    fill: torch.Tensor

    def __init__(self, p: float = 0.2, fill: float | torch.Tensor = 0.0) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p must be in [0, 1), got {p!r}")
        self.p = p
        self.register_buffer("fill", torch.as_tensor(fill, dtype=torch.float32))

    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Hide features.

        Parameters
        ----------
        x : Tensor of shape (n_samples, ...)
            The samples.
        generator : torch.Generator, default=None
            Where random numbers come from; None is torch's global generator.

        Returns
        -------
        hidden : Tensor of shape (n_samples, ...)
            The samples, some entries filled.
        """
        keep = _uniform(x, tuple(x.shape), 0.0, 1.0, generator) >= self.p
        return torch.where(keep, x, self.fill.to(x))


class RandomAffine2d(torch.nn.Module):
    """A random affine map of each image, and a random gain of its intensity.

    Each image is turned, sheared, scaled along both axes and moved, by uniform draws of its own;
    grey values are interpolated linearly, and what comes from outside is zero.

    Parameters
    ----------
    degrees : float, default=20.0
        Largest rotation, in both senses.
    scale : tuple of (float, float), default=(0.75, 1.25)
        Least and largest magnification of an axis.
    shear : float, default=0.3
        Largest shear: pixels to the side for each pixel up.
    translate : float, default=0.15
        Largest shift along an axis, as a part of the image.
    intensity : tuple of (float, float), default=(0.7, 1.3)
        Least and largest factor of the grey values of an image; all channels have the same.
    image_shape : tuple of (int, int, int), default=None
        Channels, height and width of images that come as flat rows, as in a table. None takes
        batches of shape (n_samples, n_channels, height, width).

    See Also
    --------
    RandomViews : Several views of each image.
    GaussianNoise : Noise of pixels.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import RandomAffine2d
    >>> flat = torch.rand(5, 64)
    >>> RandomAffine2d(image_shape=(1, 8, 8))(flat, torch.Generator().manual_seed(0)).shape
    torch.Size([5, 64])
    """

    def __init__(
        self,
        degrees: float = 20.0,
        scale: tuple[float, float] = (0.75, 1.25),
        shear: float = 0.3,
        translate: float = 0.15,
        intensity: tuple[float, float] = (0.7, 1.3),
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("degrees", degrees), ("shear", shear), ("translate", translate)):
            if not value >= 0:
                raise ValueError(f"{name} must not be negative, got {value!r}")
        self.degrees, self.shear, self.translate = float(degrees), float(shear), float(translate)
        self.scale = _range(scale, "scale")
        self.intensity = _range(intensity, "intensity")
        self.image_shape = image_shape

    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Map each image.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_channels, height, width) or (n_samples, n_pixels)
            The images; flat ones where `image_shape` is given.
        generator : torch.Generator, default=None
            Where random numbers come from; None is torch's global generator.

        Returns
        -------
        mapped : Tensor of the shape of `x`
            The images, changed.
        """
        images = x if self.image_shape is None else self._unfold(x)
        if images.ndim != 4:
            raise ValueError(
                "images must have shape (n_samples, n_channels, height, width), got "
                f"{tuple(x.shape)}; give image_shape for flat rows"
            )
        n, _, height, width = images.shape
        draw = _uniform(x, (7, n), -1.0, 1.0, generator)
        theta = self._maps(draw, height, width)
        grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
        mapped = torch.nn.functional.grid_sample(images, grid, align_corners=False)
        low, high = self.intensity
        gain = (low + high) / 2 + (high - low) / 2 * draw[6]
        return (mapped * gain[:, None, None, None]).reshape(x.shape)

    def _unfold(self, x: torch.Tensor) -> torch.Tensor:
        channels, height, width = self.image_shape  # type: ignore[misc]
        if x[0].numel() != channels * height * width:
            raise ValueError(
                f"image_shape={self.image_shape} has {channels * height * width} values, samples "
                f"of shape {tuple(x.shape[1:])} have {x[0].numel()}"
            )
        return x.reshape(-1, channels, height, width)

    def _maps(self, draw: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Return (n, 2, 3): where each place of the result is found in the image.

        Places go from -1 to 1 along both axes, so that angles need the ratio of the sides.
        """
        angle = draw[0] * (self.degrees * torch.pi / 180)
        low, high = self.scale
        across, along = (2 / ((low + high) + (high - low) * draw[k]) for k in (1, 2))
        shear = self.shear * draw[3]
        cos, sin = torch.cos(angle), torch.sin(angle)
        theta = draw.new_empty((draw.shape[1], 2, 3))
        theta[:, 0, 0] = across * cos
        theta[:, 0, 1] = along * (cos * shear - sin) * (height / width)
        theta[:, 1, 0] = across * sin * (width / height)
        theta[:, 1, 1] = along * (sin * shear + cos)
        theta[:, :, 2] = 2 * self.translate * draw[4:6].T
        return theta

    def extra_repr(self) -> str:
        """Return the parameters, for the printed module.

        Returns
        -------
        text : str
            The parameters.
        """
        return (
            f"degrees={self.degrees}, scale={self.scale}, shear={self.shear}, "
            f"translate={self.translate}, intensity={self.intensity}"
        )
