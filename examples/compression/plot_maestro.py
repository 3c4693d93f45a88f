"""
One network, every size
=======================

A perceptron that reads digits is trained once, and answers at every size afterwards. The same
network, trained as usual and truncated by a singular value decomposition, holds out as long as
there is much to throw away, and then falls earlier.
"""

# %%
# One training
# ------------
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklr.neural_network import MaestroClassifier, SizeCurveDisplay
from sklr.nn.compression import WeightSVD

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

classifier = MaestroClassifier(random_state=0).fit(X_train, y_train)

# %%
# Another size needs no other fit:
for ratio in (1.0, 0.3, 0.15):
    classifier.set_params(ratio=ratio)
    score = classifier.score(X_test, y_test)
    print(f"{ratio:4.0%}: {classifier.n_params_:6d} parameters, accuracy {score:.3f}")

# %%
# What became of the layers at the last size:
for row in classifier.report_:
    print(row["name"], row["shape"], row["status"], row["rank"], row["params_after"])

# %%
# Beside a truncation after the fact
# ----------------------------------
# A network of the same widths, trained as usual with as many epochs, and cut to the same share in
# each hidden layer; the last layer stays whole, without which it would fall much earlier.
torch.manual_seed(0)
mean, scale = X_train.mean(axis=0), np.maximum(X_train.std(axis=0), 1e-6)
train, test = (torch.tensor((part - mean) / scale).float() for part in (X_train, X_test))
labels = torch.tensor(y_train)
network = torch.nn.Sequential(
    *(torch.nn.Linear(64, 128), torch.nn.ReLU()),
    *(torch.nn.Linear(128, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)),
)
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
for _ in range(50):
    for rows in torch.randperm(len(train)).split(64):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(train[rows]), labels[rows]).backward()
        optimizer.step()

sizes, scores = [], []
for share in (1.0, 0.6, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.04):
    small = WeightSVD(share).fit(network).transform(network)
    with torch.no_grad():
        scores.append(float((small(test).argmax(dim=1).numpy() == y_test).mean()))
    sizes.append(sum(p.numel() for p in small.parameters()))

# %%
# The picture
# -----------
_, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
SizeCurveDisplay.from_estimator(classifier, X_test, y_test, name="trained for every size", ax=ax)
SizeCurveDisplay(sizes, scores, name="SVD after the fact").plot(ax=ax)
plt.show()

# %%
# The plain small network, to go elsewhere
# ----------------------------------------
small = classifier.set_params(ratio=0.15).export()
print(small)
