"""
What will they choose next?
===========================

Three hundred listeners, four hundred songs, and counts of plays. Ratings are not needed for a list
of recommendations: that a song was played at all says most.
:class:`~sklr.decomposition.ImplicitFactorization` ranks what was not played yet.
"""

# %%
# Plays
# -----
#
# Each listener mixes five genres in proportions of his own, each song belongs mostly to one, and
# some songs are popular with everybody. Counts have a long tail.

import matplotlib.pyplot as plt
import numpy as np

from sklr.decomposition import ImplicitFactorization, MatrixFactorizationRegressor

rng = np.random.default_rng(0)
mix, genre = rng.dirichlet([0.3] * 5, 300), rng.dirichlet([0.1] * 5, 400)
popular = rng.lognormal(0, 1, 400)
chance = np.minimum(0.25 * mix @ genre.T * popular, 0.9)
X = np.argwhere(rng.random(chance.shape) < chance)
plays = 1 + rng.poisson(rng.lognormal(1, 1, len(X)))
test = rng.random(len(X)) < 0.2
train = ~test

# %%
# Three lists of ten
# ------------------
#
# The score is the NDCG of lists of ten: 1 where the held-out songs come first. A model of the
# counts as ratings knows how much a song would be played *if* it were chosen, and is behind
# popularity.

ranking = ImplicitFactorization(16, random_state=0).fit(X[train], plays[train])
rating = MatrixFactorizationRegressor(16, random_state=0).fit(X[train], np.log(plays[train]))
counts = np.bincount(X[train, 1], minlength=400)


def ndcg(lists):
    discount, found = 1 / np.log2(np.arange(2, 12)), []
    for user, songs in lists.items():
        wanted = X[test & (X[:, 0] == user), 1]
        hits = np.isin(songs, wanted)
        found.append(hits @ discount[: len(hits)] / discount[: len(wanted)].sum())
    return np.mean(found)


users = np.intersect1d(X[test, 0], X[train, 0])
heard = {user: X[train & (X[:, 0] == user), 1] for user in users}
lists = {
    "ratings": {user: rating.recommend(user, 10)[0] for user in users},
    "popularity": {
        user: np.setdiff1d(np.argsort(-counts, kind="stable"), heard[user], assume_unique=True)[:10]
        for user in users
    },
    "implicit feedback": dict(zip(users, ranking.recommend(users, 10)[0])),
}
scores = {name: ndcg(found) for name, found in lists.items()}
for name, score in scores.items():
    print(f"{name:18} NDCG@10 {score:.3f}")

# %%
# Someone new
# -----------
#
# A listener who was not there when the model was fitted gets factors from his own plays, and a
# list.

songs = np.argsort(-genre[:, 2] * popular)[:4]  # four songs of the third genre
new = ranking.fold_in(np.c_[np.full(4, 1000), songs], [3, 5, 1, 2])
found, values = new.recommend(1000, 8)
print("genre of the recommended songs:", genre[found].argmax(axis=1))

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.barh(list(scores), list(scores.values()), color=["0.7", "0.7", "C0"])
left.set_xlabel("NDCG@10")
right.bar(np.arange(8), values, color=[f"C{g}" for g in genre[found].argmax(axis=1)])
right.set_xticks(np.arange(8), found)
right.set(xlabel="song (colour: its genre)", ylabel="score", title="for the new listener")
plt.show()
