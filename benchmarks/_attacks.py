"""Attacks on classifiers in the largest norm: FGSM, PGD, and through the latent filter (BPDA).

A model is a function from a tensor of images to one of logits; where it draws noise, `n_draws`
calls of it are averaged in each step.
"""

import torch
from torch.nn.functional import cross_entropy

from sklr.neural_network._quantization_networks import draw_code_input, hard_code, soft_code


def _gradient(model, x, y, n_draws):
    x = x.detach().requires_grad_()
    loss = sum(cross_entropy(model(x), y, reduction="sum") for _ in range(n_draws))
    return torch.autograd.grad(loss, x)[0]


def fgsm(model, x, y, eps, *, bounds=(0.0, 1.0), n_draws=1):
    """Return images moved by `eps` along the sign of the gradient of the loss."""
    return (x + eps * _gradient(model, x, y, n_draws).sign()).clamp(*bounds).detach()


def pgd(model, x, y, eps, *, n_steps=10, bounds=(0.0, 1.0), n_draws=1, seed=0):
    """Return images after steps of eps / 4 from a random start, kept within `eps`."""
    start = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    found = (x + eps * (2 * start - 1)).clamp(*bounds)
    for _ in range(n_steps):
        found = found + eps / 4 * _gradient(model, found, y, n_draws).sign()
        found = torch.minimum(torch.maximum(found, x - eps), x + eps).clamp(*bounds).detach()
    return found


def through_filter(fitted, model, *, noise=True, seed=0):
    """Return the model behind a fitted LatentQuantizationFilter, for an attacker who knows both.

    Forward are the hard bits, as in ``transform``; backward the soft ones (BPDA). With `noise`
    each call draws the latent noise of training, whose mean gradient is smoother.
    """
    parts = fitted.module_
    generator = torch.Generator().manual_seed(seed)

    def whole(x):
        low, high = fitted.data_min_, fitted.data_max_
        if fitted.feature_range == "sample":
            low, high = x.amin(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)
        half = (high - low) / 2
        features = parts["trunk"](((x - low) / half - 1).clamp(-1, 1))
        z = parts["mean"](features)
        if noise:
            z = draw_code_input(z, parts["log_variance"](features), fitted.threshold, generator)
        soft = soft_code(z, fitted.threshold, fitted.softness)
        code = soft + (hard_code(z, fitted.threshold) - soft).detach()
        return model(low + half * (1 + parts["decoder"](code)))

    return whole


def straight_through(function, model):
    """Return the model behind a filter of tensors that is taken for the identity backward."""
    return lambda x: model(x + (function(x) - x).detach())
