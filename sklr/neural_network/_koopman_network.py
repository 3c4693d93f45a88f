"""A Koopman operator with a trained encoder: windows, losses, which operator is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklr._torch._batches import batch_bounds
from sklr._torch._modules import mlp, output_width, own_module, probe
from sklr.neural_network._koopman_closed import ClosedForms
from sklr.neural_network._koopman_dictionaries import RIDGE, LeastSquares
from sklr.neural_network._koopman_forecast import Dynamics, log_error
from sklr.neural_network._koopman_trajectories import transitions, window_starts
from sklr.neural_network._loop import TrainState
from sklr.utils._warnings import warn_user

if TYPE_CHECKING:
    from torch import Tensor, nn


class TrainedForm(ClosedForms):
    """Fits by training an encoder, a decoder and an operator on windows of states."""

    n_components: int
    alpha: float
    beta: float
    gamma: float
    reconstruction_weight: float
    n_neighbors: int
    temperature: float
    window: int
    hidden_layer_sizes: Sequence[int]
    decoder: Any
    refit_operator: bool
    batch_size: int | str
    early_stopping: bool
    validation_fraction: float

    def _fit_trained(self, S: np.ndarray, kept: Any, held: Any, tests: Any) -> None:
        length = self._window_length(kept)
        self._windows = window_starts(kept, length)[:, None] + np.arange(length)
        validation = None
        if self.early_stopping:
            starts = window_starts(held, length) if held else np.empty(0, int)
            if not len(starts):
                raise ValueError(
                    f"early_stopping needs windows of {length} states in what validation_fraction="
                    f"{self.validation_fraction} sets aside, and there are none: give more or "
                    "longer trajectories, a smaller window, or early_stopping=False"
                )
            validation = S[starts[:, None] + np.arange(length)], None
        with self._ready_to_train():
            self._fit_network(S, validation=validation)
            self._choose_operator(S, kept, tests)
        del self._windows

    def _choose_operator(self, S: np.ndarray, kept: Any, tests: Any) -> None:
        """Take the learned operator or one in closed form, whichever forecasts better."""
        import torch

        self._dynamics = Dynamics(self._latents_of, self._learned_operator(), self._states_of)
        self.ridge_ = RIDGE if self.ridge == "auto" else float(self.ridge)
        operators = {"learned": self._dynamics.K}
        if self.refit_operator:
            pairs = transitions(kept)
            squares = LeastSquares(self._latents_of, S, pairs)
            operators["closed form"] = squares.solve(self.ridge_)
        relifts = (False, True) if self.relift == "auto" else (bool(self.relift),)
        choices = [(0.0, relifts[0], list(operators.values())[-1])]
        if len(tests[0]) and len(operators) * len(relifts) > 1:
            choices = []
            for name, K in operators.items():
                self._dynamics.K = K
                for relift in relifts:
                    errors = self._errors(self._dynamics, S, tests, relift)
                    choices.append((log_error(errors), relift, K))
                    self._note(self.encoder_, errors, operator=name, relift=relift)
        _, self.relift_, self._dynamics.K = min(choices, key=lambda choice: choice[0])
        with torch.no_grad():
            weight: Any = self.module_["operator"].weight  # type: ignore[index]
            weight.copy_(torch.as_tensor(self._dynamics.K, dtype=weight.dtype))

    def _window_length(self, bounds: Any) -> int:
        """Return how many consecutive states a window has, and what that switches off."""
        shortest = min(end - first for first, end in bounds)
        length = self.window + 1
        if shortest < length:
            which = min(range(len(bounds)), key=lambda i: bounds[i][1] - bounds[i][0])
            warn_user(
                f"window={self.window} is shortened to {shortest - 1}: the shortest trajectory "
                f"(number {which} of those trained on) has {shortest} states; leave short ones "
                "out, or lower window",
            )
            length = shortest
        self._coherent = self.alpha > 0 and length > 2 * self.n_neighbors
        if self.alpha > 0 and not self._coherent:
            warn_user(
                f"windows of {length} states have none with n_neighbors={self.n_neighbors} on "
                "both sides: the coherence in time is left out, as with alpha=0",
            )
        return length

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        import torch
        from torch import nn

        if self.encoder_ == "module":
            encoder = own_module(self.encoder, n_in)
            width = output_width(encoder, n_in, what="encoder")
        else:
            width = self.n_components
            encoder = mlp(n_in, self.hidden_layer_sizes, width, activation=nn.SiLU)
        if self.decoder is not None:
            decoder = own_module(self.decoder, width)
        else:
            backwards = list(self.hidden_layer_sizes)[::-1]
            decoder = mlp(width, backwards, n_in, activation=nn.SiLU)
        operator = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            operator.weight.copy_(torch.eye(width))
        return nn.ModuleDict({"encoder": encoder, "decoder": decoder, "operator": operator})

    def _check_module(self, module: Any, X: Tensor, n_out: Any) -> None:
        Z = probe(module["encoder"], X, what="encoder")
        probe(module["decoder"], Z, n_columns=X.shape[1], what="decoder")

    def _batches(self, step: TrainState) -> Iterator[Any]:
        import torch

        windows = torch.as_tensor(self._windows)
        order = torch.randperm(len(windows), generator=step.shuffle)
        bounds = batch_bounds(len(windows), self._windows_of_a_batch())
        for first, end in zip(bounds[:-1], bounds[1:]):
            yield windows[order[first:end]].reshape(-1).to(step.X.device)

    def _n_batches(self, step: TrainState) -> int:
        return len(batch_bounds(len(self._windows), self._windows_of_a_batch())) - 1

    def _windows_of_a_batch(self) -> int:
        return 64 if self.batch_size == "auto" else int(self.batch_size)

    def _learning_rate_factor(self, step: TrainState) -> float:
        return 0.8 ** (step.epoch // 20)

    def _loss(self, module: Any, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        return self._loss_of_windows(
            module, xb.reshape(-1, self._windows.shape[1], xb.shape[-1]), step
        )

    def _loss_of_windows(self, module: Any, windows: Tensor, step: TrainState) -> Tensor:
        """Return the loss of windows, (n_windows, n_states, n_features)."""
        from sklr.nn import temporal_infonce, von_neumann_entropy

        n, length, width = windows.shape
        Z = module["encoder"](windows.reshape(-1, width)).reshape(n, length, -1)
        ahead = module["operator"](Z[:, :-1])
        # One pass of the decoder for latents as they are and as they are forecast.
        both = module["decoder"](_joined(Z, ahead))
        states = windows.reshape(-1, width)
        now = (both[: len(states)] - states).square().mean()
        forecast = (both[len(states) :] - windows[:, 1:].reshape(-1, width)).square().mean()
        linear = (Z[:, 1:] - ahead).square().mean()
        loss = forecast + self.reconstruction_weight * now + self.beta * linear
        step.log("forecast", forecast)
        step.log("reconstruction", now)
        step.log("linearity", linear)
        if self._coherent:
            coherence = temporal_infonce(Z, self.n_neighbors, self.temperature)
            loss = loss + self.alpha * coherence
            step.log("coherence", coherence)
        if self.gamma > 0:
            entropy = von_neumann_entropy(Z)
            loss = loss - self.gamma * entropy
            step.log("entropy", entropy)
        return loss

    def _step(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        import torch

        from sklr._torch._device import mixed_precision

        for optimizer in step.optimizers:
            optimizer.zero_grad(set_to_none=True)
        with mixed_precision(step.device):
            loss = self._loss(module, xb, yb, step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        for optimizer in step.optimizers:
            optimizer.step()
        return loss.detach()

    def _validation_score(self, module: nn.Module, X: Tensor, y: Any, step: TrainState) -> float:
        import torch

        step.index = None  # these windows are not in step.X: nothing is logged
        module.eval()
        with torch.no_grad():
            score = -float(self._loss_of_windows(module, X, step))
        module.train()
        return score

    def _latents_of(self, S: np.ndarray) -> np.ndarray:
        return self._infer(S, lambda module, xb: module["encoder"](xb))  # type: ignore[index]

    def _states_of(self, Z: np.ndarray) -> np.ndarray:
        return self._infer(Z, lambda module, zb: module["decoder"](zb))  # type: ignore[index]

    def _learned_operator(self) -> np.ndarray:
        weight = self.module_["operator"].weight  # type: ignore[index]
        return weight.detach().cpu().double().numpy().copy()

    # Files of weights.

    def save_weights(self, path: Any) -> None:
        """Write the weights of the network to a file; closed forms have none.

        Parameters
        ----------
        path : str or path
            Where to; with the ending ``.safetensors`` in that format (needs the package
            safetensors), else in torch's own.
        """
        self._require_network("save_weights")
        super().save_weights(path)

    def load_weights(self, path: Any) -> Any:
        """Read weights for the fitted network from a file; no code in the file is run.

        Eigenvalues and eigenfunctions follow; `modes_` and what was measured on the training data
        stay.

        Parameters
        ----------
        path : str or path
            A file of :meth:`save_weights`, of a ``Checkpoint``, or any ``state_dict`` of tensors.

        Returns
        -------
        self : object
            The estimator with these weights; unchanged when the file is refused.
        """
        self._require_network("load_weights")
        super().load_weights(path)
        self._dynamics.K = self._learned_operator()
        self._set_eigenvalues()
        return self

    def _require_network(self, what: str) -> None:
        check_is_fitted(self)
        if not hasattr(self, "module_"):
            raise ValueError(
                f"{what} is for networks, and the encoder is {self.encoder_!r}: use pickle"
            )


def _joined(Z: Tensor, ahead: Tensor) -> Tensor:
    import torch

    return torch.cat([Z.flatten(0, 1), ahead.flatten(0, 1)])
