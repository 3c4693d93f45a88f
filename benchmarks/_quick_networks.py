"""Rows of the quick mode that need torch; see `quick.py` for what a row returns."""

import numpy as np


def torch_alone():
    """Return torch with one thread and a fixed seed."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    return torch


def digits():
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


def _loop(torch, network, X, y, epochs, batch=200, lr=1e-3):
    """Train as one would by hand: Adam, shuffled batches."""
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    optimizer = torch.optim.Adam(network.parameters(), lr)
    for _ in range(epochs):
        for part in torch.randperm(len(X)).split(batch):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(X[part]), y[part]).backward()
            optimizer.step()


def _products(torch, n, widths, passes):
    """Return a call with the matrix products of that many passes of n samples, and back."""
    X = [torch.randn(n, width) for width in widths]
    W = [torch.randn(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)]

    def call():
        for _ in range(passes):
            for x, w, out in zip(X, W, X[1:], strict=False):
                torch.mm(x, w)
                torch.mm(x.T, out)
                if x is not X[0]:
                    torch.mm(out, w.T)

    return call


def _step(module, x, loss=lambda out: out.square().mean()):
    def call():
        x.grad = None
        module.zero_grad()
        loss(module(x)).backward()

    return call


def _perceptron(torch, *widths):
    layers = []
    for a, b in zip(widths[:-1], widths[1:], strict=True):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


_EPOCH_PRODUCTS = "the products of an epoch's batches with the weights, and back"


def spdnet():
    """Five epochs of SPDNet on 80 matrices of 20 rows, against tangent space and regression."""
    torch = torch_alone()
    from quick import spd
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from sklr.covariance import TangentSpace
    from sklr.neural_network import SPDNetClassifier

    X, y = spd(80, 20), np.arange(80) % 2
    T = torch.from_numpy(X)
    return (
        lambda: SPDNetClassifier(max_iter=5, random_state=0).fit(X, y),
        lambda: make_pipeline(TangentSpace(), LogisticRegression()).fit(X, y),
        lambda: [torch.linalg.eigh(T) for _ in range(5)],
        "one eigendecomposition a matrix and epoch",
    )


def _for_every_size(name):
    """Six epochs of an estimator that trains all sizes at once, against the loop for one size."""
    torch = torch_alone()
    from sklr import neural_network

    X, y = digits()
    widths = (64, 128, 128, 10)
    model = getattr(neural_network, name)(max_iter=6, warmup_iter=3, batch_size=200, random_state=0)
    return (
        lambda: model.fit(X, y),
        lambda: _loop(torch, _perceptron(torch, *widths), X, y, 6),
        _products(torch, 200, widths, 54),
        _EPOCH_PRODUCTS,
    )


def morphable():
    """Six epochs of a perceptron for every width on digits, against the loop for one width."""
    return _for_every_size("MorphableClassifier")


def maestro():
    """Six epochs of a perceptron for every size on digits, against the loop for one size."""
    return _for_every_size("MaestroClassifier")


def subspace_training():
    """Six epochs along 100 directions on digits, against the loop that moves all weights."""
    torch = torch_alone()
    from sklr.neural_network import SubspaceClassifier

    X, y = digits()
    widths = (64, 100, 10)
    return (
        lambda: SubspaceClassifier(100, max_iter=6, random_state=0).fit(X, y),
        lambda: _loop(torch, _perceptron(torch, *widths), X, y, 6, batch=128),
        _products(torch, 128, widths, 90),
        _EPOCH_PRODUCTS,
    )


def group_convolution():
    """A training step of 8 maps of 8 channels, against Conv2d of all 64 channels."""
    torch = torch_alone()
    from sklr.geometry import sample_group
    from sklr.nn import GroupConv2d

    H = sample_group("so2", 8, random_state=0)
    x = torch.randn(32, 8, 8, 14, 14, requires_grad=True)
    flat = x.detach().flatten(1, 2).requires_grad_()
    peer = torch.nn.Conv2d(64, 64, 5, padding=2)
    a, b = torch.randn(32 * 196, 64), torch.randn(64, 64)
    return (
        _step(GroupConv2d(H, 8, 8, 5, padding=2), x),
        _step(peer, flat),
        lambda: [(torch.mm(a, b), torch.mm(a, b), torch.mm(a.T, a)) for _ in range(2)],
        "the products that mix maps and channels, there and back",
    )


def latent_spectral():
    """A training step on 10 fields of 32 x 32, against three convolutions of that width."""
    torch = torch_alone()
    from sklr.nn import LatentSpectralModel

    x = torch.randn(10, 1, 32, 32)
    ours = LatentSpectralModel(2)
    peer = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.GELU(),
        torch.nn.Conv2d(16, 16, 3, padding=1), torch.nn.GELU(),
        torch.nn.Conv2d(16, 1, 3, padding=1),
    )  # fmt: skip
    try:
        ours(x)
    except (RuntimeError, ValueError):  # channels last
        x = x.movedim(1, -1).contiguous()
        fields = x.movedim(-1, 1).contiguous()
    else:
        fields = x
    a, b = torch.randn(10 * 1024, 144), torch.randn(144, 16)
    return (
        _step(ours, x),
        _step(peer, fields),
        lambda: [(torch.mm(a, b), torch.mm(a, b), torch.mm(a.T, a[:, :16])) for _ in range(4)],
        "the products of four convolutions at full resolution, and back",
    )


def quantization():
    """Cleaning 500 images of 28 x 28, against PCA of as many numbers."""
    torch_alone()
    from sklearn.decomposition import PCA

    from sklr.neural_network import LatentQuantizationFilter

    X = np.random.default_rng(0).random((500, 784)).astype(np.float32)
    ours, peer = LatentQuantizationFilter(max_iter=1, random_state=0).fit(X), PCA(128).fit(X)
    W, V = np.ones((784, 256), np.float32), np.ones((256, 128), np.float32)
    return (
        lambda: ours.transform(X),
        lambda: peer.inverse_transform(peer.transform(X)),
        lambda: ((X @ W) @ V @ V.T) @ W.T,
        "the products with the weights of encoder and decoder",
    )


def margin_loss():
    """Loss, negatives and gradient of 256 embeddings, against pytorch-metric-learning."""
    torch = torch_alone()
    from sklr.nn import MarginLoss

    labels = torch.arange(256) // 8
    z = (torch.randn(256, 64) + 2 * torch.randn(32, 64)[labels]).requires_grad_()
    ours = MarginLoss()
    try:
        from pytorch_metric_learning import losses, miners
    except ImportError:
        peer = None
    else:
        loss, miner = losses.MarginLoss(), miners.DistanceWeightedMiner()

        def peer():
            z.grad = None
            loss(z, labels, miner(z, labels)).backward()

    def step():
        z.grad = None
        ours(z, labels).backward()

    leaf = z.detach()
    return (
        step,
        peer,
        lambda: [(leaf @ leaf.T).square().log() for _ in range(2)],
        "distances of all pairs and a logarithm, there and back",
    )


def mmcr():
    """Loss and gradient of 64 x 16 views of 128 numbers, against singular values by torch."""
    torch = torch_alone()
    from sklr.nn import mmcr_loss

    z = torch.randn(64 * 16, 128).requires_grad_()

    def step():
        z.grad = None
        mmcr_loss(z, 16).backward()

    def peer():
        z.grad = None
        unit = torch.nn.functional.normalize(z, dim=1)
        centroids = unit.reshape(16, 64, 128).mean(dim=0)
        (-torch.linalg.svd(centroids, full_matrices=False).S.sum()).backward()

    Z = torch.randn(64, 64)
    return step, peer, lambda: torch.linalg.eigh(Z @ Z.T), "one eigendecomposition of 64 rows"


def coding_rate():
    """Coding rate and gradient of 1,000 x 128, against autograd through slogdet."""
    torch = torch_alone()
    from sklr.nn import coding_rate

    z = torch.randn(1000, 128).requires_grad_()

    def step():
        z.grad = None
        coding_rate(z).backward()

    def peer():
        z.grad = None
        A = torch.eye(128) + z.T @ z * (128 / (1000 * 0.01))
        (0.5 * torch.linalg.slogdet(A)[1]).backward()

    Z = z.detach()
    return (
        step,
        peer,
        lambda: (torch.linalg.cholesky(Z.T @ Z), Z @ Z[:128].T),
        "the product of the features, its Cholesky factor, and a product back",
    )


def optimizer():
    """Ten steps of low rank on 512 x 512, against AdamW of torch with all moments."""
    torch = torch_alone()
    from sklr.nn.optim import DCTAdamW

    def parameter():
        p = torch.nn.Parameter(torch.randn(512, 512))
        p.grad = torch.randn(512, 512)
        return p

    ours, peer = DCTAdamW([parameter()], rank=64), torch.optim.AdamW([parameter()])
    G, B = torch.randn(512, 512), torch.randn(512, 64)
    return (
        lambda: [ours.step() for _ in range(10)],
        lambda: [peer.step() for _ in range(10)],
        lambda: [(torch.fft.rfft(G), (G @ B) @ B.T) for _ in range(10)],
        "a transform of the gradient, and the products to low rank and back, each step",
    )


def adapters():
    """A training step of LoRA in four layers of 256, against the layers trained in full."""
    torch = torch_alone()
    from sklr.nn.adapters import add_adapter

    def network():
        return _perceptron(torch, 256, 256, 256, 256, 256)

    ours, peer, x = network(), network(), torch.randn(256, 256)
    add_adapter(ours, "lora", rank=8, random_state=0)
    optimizers = {
        id(net): torch.optim.AdamW([p for p in net.parameters() if p.requires_grad])
        for net in (ours, peer)
    }

    def steps(net):
        for _ in range(5):
            net.zero_grad()
            net(x).square().mean().backward()
            optimizers[id(net)].step()

    W = torch.randn(256, 256)
    return (
        lambda: steps(ours),
        lambda: steps(peer),
        lambda: [x @ W for _ in range(5 * 7)],
        "products of the batch with the weights, and back but for the first layer",
    )


def compression():
    """Atomic feature mimicking of a perceptron on digits, against SVDs of the weights."""
    torch = torch_alone()
    from sklr.nn.compression import AtomicFeatureMimicking

    X = torch.from_numpy(digits()[0])
    network = _perceptron(torch, 64, 256, 256, 10)
    weights = [layer.weight.detach() for layer in network if hasattr(layer, "weight")]
    A = torch.randn(256, 256)
    return (
        lambda: AtomicFeatureMimicking(0.5).fit(network, X),
        lambda: [torch.linalg.svd(w, full_matrices=False) for w in weights],
        lambda: [(A @ torch.randn(256, len(X)), torch.linalg.eigh(A + A.T)) for _ in (0, 1)],
        "a product of the outputs and an eigendecomposition for each of two layers",
    )


def hessian():
    """A product with the Hessian of a perceptron on digits, against autograd twice."""
    torch = torch_alone()
    from sklr.landscape import HessianOperator

    X, y = digits()
    network = torch.nn.Sequential(
        torch.nn.Linear(64, 128), torch.nn.Tanh(), torch.nn.Linear(128, 10)
    )
    ours = HessianOperator(network, X, y, dtype="float32")
    v = np.random.default_rng(0).standard_normal(ours.n_parameters).astype(np.float32)
    X, y, w = torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(v)
    parameters = list(network.parameters())

    def peer():
        loss = torch.nn.functional.cross_entropy(network(X), y)
        grads = torch.autograd.grad(loss, parameters, create_graph=True)
        flat = torch.cat([g.flatten() for g in grads])
        torch.autograd.grad(flat @ w, parameters)

    return (
        lambda: ours @ v,
        peer,
        _products(torch, 1797, (64, 128, 10), 2),
        "twice the products of forward and backward pass",
    )


def koopman():
    """Cubic dynamics of 20 trajectories of two coordinates, against least squares in NumPy."""
    torch_alone()
    from sklearn.preprocessing import PolynomialFeatures

    from sklr.neural_network import InformationKoopman

    t = 0.05 * np.arange(200)
    trajectories = [
        np.stack([a * np.sin(t) + 0.1 * np.sin(3 * t), a * np.cos(t)], axis=1)
        for a in np.linspace(0.5, 2, 20)
    ]
    lift = PolynomialFeatures(3)

    def peer():
        Z = [lift.fit_transform(x) for x in trajectories]
        before, after = (np.concatenate([z[part] for z in Z])
                         for part in (slice(None, -1), slice(1, None)))  # fmt: skip
        np.linalg.lstsq(before, after, rcond=None)

    Z = np.random.default_rng(0).standard_normal((3980, 10))
    return (
        lambda: InformationKoopman("polynomial", random_state=0).fit(trajectories),
        peer,
        lambda: (Z.T @ Z, Z.T @ Z, np.linalg.eig(Z[:10])),
        "two products of the lifted states and one eigendecomposition",
    )


def generative():
    """Fifty steps of a model of 200 points on a circle, against a mixture of five."""
    torch = torch_alone()
    from sklearn.mixture import GaussianMixture

    from sklr.neural_network import PerturbedGenerativeModel

    angle = 2 * np.pi * np.random.default_rng(0).random(200)
    X = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (
        lambda: PerturbedGenerativeModel(1, max_iter=50, random_state=0).fit(X),
        lambda: GaussianMixture(5, random_state=0).fit(X),
        _products(torch, 400, (1, 64, 64, 2), 50),
        "fifty passes of 400 latents through decoder, and back",
    )


def dynamic_subspace():
    """Three epochs on digits, against neighbourhood components for three steps."""
    torch = torch_alone()
    from sklearn.neighbors import NeighborhoodComponentsAnalysis

    from sklr.neural_network import DynamicSubspaceEmbedding

    X, y = digits()
    X, y = X[:600], y[:600]
    return (
        lambda: DynamicSubspaceEmbedding(32, max_iter=3, random_state=0).fit(X, y),
        lambda: NeighborhoodComponentsAnalysis(32, max_iter=3, random_state=0).fit(X, y),
        _products(torch, 64, (64, 256, 256, 32), 30),
        _EPOCH_PRODUCTS,
    )


def manifold_clustering():
    """Five warm-up epochs and two more on 500 digits, against spectral clustering."""
    torch = torch_alone()
    from sklearn.cluster import SpectralClustering

    from sklr.neural_network import ManifoldLinearizingClustering

    X = digits()[0][:500]
    return (
        lambda: ManifoldLinearizingClustering(10, warmup_iter=5, max_iter=2, random_state=0).fit(X),
        lambda: SpectralClustering(10, affinity="nearest_neighbors", random_state=0).fit(X),
        _products(torch, 500, (64, 512, 512, 64), 7),
        _EPOCH_PRODUCTS,
    )


def perceptron():
    """Ten epochs of the networks' common base on digits, against the loop by hand."""
    torch = torch_alone()
    from sklr.neural_network._perceptron import PerceptronClassifier

    X, y = digits()
    widths = (64, 128, 10)
    return (
        lambda: PerceptronClassifier(max_iter=10, batch_size=200, random_state=0).fit(X, y),
        lambda: _loop(torch, _perceptron(torch, *widths), X, y, 10),
        _products(torch, 200, widths, 90),
        _EPOCH_PRODUCTS,
    )


ROWS = (
    spdnet, perceptron, morphable, maestro, subspace_training, group_convolution, latent_spectral,
    quantization, margin_loss, dynamic_subspace, mmcr, coding_rate, manifold_clustering, optimizer,
    adapters, compression, hessian, koopman, generative,
)  # fmt: skip
