"""
How many dimensions does a task need?
=====================================

Networks of different size are trained along a few random directions of their parameters. What they
reach hardly depends on how many parameters they have.
"""

# %%
# Two networks, eight times apart in size
# ---------------------------------------
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from torch import nn

from sklr.landscape import DimensionCurveDisplay, IntrinsicDimension
from sklr.neural_network import SubspaceClassifier

X, y = load_digits(return_X_y=True)
X, y = X[:900] / 16, y[:900]

# Networks of one's own see the pixels as they are; the default one would standardise them first.
networks = {
    "one hidden layer": lambda n: nn.Sequential(nn.Linear(n, 32), nn.ReLU(), nn.Linear(32, 10)),
    "two hidden layers": lambda n: nn.Sequential(
        *(nn.Linear(n, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    ),
}
_, ax = plt.subplots(figsize=(6.5, 4))
for module in networks.values():
    network = SubspaceClassifier(module=module, max_iter=40)
    search = IntrinsicDimension(network, dims=[10, 20, 40, 80, 160, 320], random_state=0)
    search.fit(X, y)
    print(
        f"{search.n_parameters_} parameters: {search.dimension_:.0f} dimensions "
        f"+- {search.dimension_std_:.0f} for {search.threshold_:.3f}"
    )
    DimensionCurveDisplay.from_estimator(search, ax=ax, label=f"{search.n_parameters_} parameters")
ax.set_title("Dotted: 90 % of what all parameters reach")
plt.tight_layout()
plt.show()

# %%
# A model that is a seed and some numbers
# ---------------------------------------
model = search.best_estimator_
state = model.compressed_state()
print(f"{len(state['z'])} numbers instead of {model.n_parameters_}")
