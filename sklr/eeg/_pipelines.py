"""The pipelines of the main job, as objects and as a folder of MOABB files."""

import pathlib
import shutil

from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from sklr.covariance import (
    AugmentedCovariance,
    AugmentedCovarianceAverageSVC,
    AugmentedCovarianceSVC,
    AugmentedCovarianceSVCCV,
    TangentSpace,
)

#: Name of the pipeline that the others are compared with.
BASELINE = "TS+LR"
_ACM = "Carrara and Papadopoulo, arXiv:2302.04508; IEEE Trans. Biomed. Eng., 2024"
_RIEMANN = "Barachant et al., IEEE Trans. Biomed. Eng. 59(4), 2012, 10.1109/TBME.2011.2172210"
_XDAWN = "Rivet et al., IEEE Trans. Biomed. Eng. 56(8), 2009, 10.1109/TBME.2009.2012869"
CITATIONS = {
    "MDM": _RIEMANN,
    "CSP+LDA": "Koles, Electroencephalogr. Clin. Neurophysiol. 79(6), 1991",
    "TS+LR": _RIEMANN,
    "XDAWN+TS+LR": _XDAWN,
    "FB+TS+LR": "Congedo, Barachant, Andreev, arXiv:1310.8115",
    "ACM(3,2)+TS+SVM": _ACM,
    "ACM(5,3)+TS+SVM": _ACM,
    "ACM average+TS+SVM": _ACM,
    "ACM bands+TS+SVM": _ACM,
    "ACM+TS+SVM nested": _ACM,
    "ACM+TS+SVM MDOP": _ACM,
}
#: What the names mean, a line each.
MEANINGS = {
    "MDM": "minimum distance to mean: the class whose mean covariance is nearest",
    "CSP+LDA": "common spatial patterns, then a linear discriminant",
    "TS+LR": "tangent space of the covariances, then logistic regression: the baseline",
    "XDAWN+TS+LR": "covariances with the XDAWN-filtered average response, then as TS+LR",
    "FB+TS+LR": "filter bank: channels in a narrow band at each flicker, then as TS+LR",
    "ACM(3,2)+TS+SVM": "augmented covariances (3 copies, 2 samples apart), then a linear SVM",
    "ACM(5,3)+TS+SVM": "augmented covariances (5 copies, 3 samples apart), then a linear SVM",
    "ACM average+TS+SVM": "the average of ten augmented covariances' kernels: nothing is selected",
    "ACM bands+TS+SVM": "the average of two augmented covariances in each of three bands",
    "ACM+TS+SVM nested": "copies and lag searched by cross-validation inside the training trials",
    "ACM+TS+SVM MDOP": "copies and lag from the signals alone, by the delay statistics of MDOP",
}
#: What left and right hand imagery is compared with by default.
DEFAULT = (
    "MDM",
    "CSP+LDA",
    "TS+LR",
    "ACM(3,2)+TS+SVM",
    "ACM average+TS+SVM",
    "ACM+TS+SVM nested",
    "ACM+TS+SVM MDOP",
)


def make_pipelines(
    names=None,
    *,
    orders=range(1, 11),
    lags=range(1, 11),
    scoring="roc_auc",
    frequencies=None,
    sfreq=None,
    band=(5.0, 45.0),
    random_state=42,
) -> dict[str, BaseEstimator]:
    """Make the pipelines of the main job.

    Parameters
    ----------
    names : iterable of str, default=None
        Which; None makes the seven for imagery: "MDM", "CSP+LDA", "TS+LR", "ACM(3,2)+TS+SVM",
        "ACM average+TS+SVM", "ACM+TS+SVM nested", "ACM+TS+SVM MDOP". There are also
        "ACM(5,3)+TS+SVM", "ACM bands+TS+SVM" and "FB+TS+LR" for flickering stimuli, "XDAWN+TS+LR"
        for P300.
    orders, lags : iterable of int, default=range(1, 11)
        Grid of the nested search; the default is the paper's.
    scoring : str, default="roc_auc"
        What the nested search maximises: "roc_auc" for two classes, "accuracy" for more.
    frequencies : sequence of float, default=None
        Stimulus frequencies in Hz, for "FB+TS+LR".
    sfreq : float, default=None
        Samples a second, for "FB+TS+LR" and "ACM bands+TS+SVM".
    band : (float, float), default=(5.0, 45.0)
        Lowest and highest frequency in Hz of "ACM bands+TS+SVM", which makes three bands of it.
    random_state : int, default=42
        Seed of the nested search's folds.

    Returns
    -------
    pipelines : dict of str to estimator
        Unfitted, with reprs that are the same in every process.

    Raises
    ------
    ValueError
        An unknown name, or a filter bank without frequencies, bands without a sampling rate.

    Examples
    --------
    >>> from sklr.eeg import make_pipelines
    >>> list(make_pipelines(["MDM", "TS+LR"]))
    ['MDM', 'TS+LR']
    """
    names = list(DEFAULT) if names is None else list(names)
    unknown = [name for name in names if name not in CITATIONS]
    if unknown:
        raise ValueError(f"pipelines must be among {list(CITATIONS)}, got {unknown}.")
    if "FB+TS+LR" in names and (frequencies is None or sfreq is None):
        raise ValueError(
            "'FB+TS+LR' filters around the stimuli: give frequencies and sfreq, or leave it out "
            f"of names; got frequencies={frequencies!r}, sfreq={sfreq!r}."
        )
    if "ACM bands+TS+SVM" in names and sfreq is None:
        raise ValueError("'ACM bands+TS+SVM' filters: give sfreq, or leave it out of names.")
    # Costs a second: pyRiemann imports matplotlib, and PyTorch where it is installed.
    from pyriemann.classification import MDM
    from pyriemann.estimation import Covariances, XdawnCovariances
    from pyriemann.spatialfilters import CSP

    from sklr.eeg._stimulus_bands import StimulusBands

    def fixed(order, lag):
        return make_pipeline(
            AugmentedCovariance(order=order, lag=lag), TangentSpace(), SVC(kernel="linear")
        )

    def logistic(*steps):
        return make_pipeline(*steps, TangentSpace(), LogisticRegression(max_iter=1000))

    makers = {
        "MDM": lambda: make_pipeline(Covariances("oas"), MDM(metric="riemann")),
        "CSP+LDA": lambda: make_pipeline(
            Covariances("oas"), CSP(nfilter=6), LinearDiscriminantAnalysis()
        ),
        "TS+LR": lambda: logistic(Covariances("oas")),
        "XDAWN+TS+LR": lambda: logistic(XdawnCovariances(nfilter=4, estimator="oas")),
        "FB+TS+LR": lambda: logistic(
            StimulusBands([float(f) for f in frequencies], float(sfreq)), Covariances("oas")
        ),
        "ACM(3,2)+TS+SVM": lambda: fixed(3, 2),
        "ACM(5,3)+TS+SVM": lambda: fixed(5, 3),
        "ACM average+TS+SVM": lambda: make_pipeline(AugmentedCovarianceAverageSVC()),
        "ACM bands+TS+SVM": lambda: make_pipeline(
            AugmentedCovarianceAverageSVC(
                ((4, 4), (5, 3)), bands=_thirds(*band), sfreq=float(sfreq)
            )
        ),
        "ACM+TS+SVM nested": lambda: make_pipeline(
            AugmentedCovarianceSVCCV(
                list(orders), list(lags), scoring=scoring, random_state=random_state
            )
        ),
        "ACM+TS+SVM MDOP": lambda: make_pipeline(AugmentedCovarianceSVC("mdop", estimator="oas")),
    }
    return {name: makers[name]() for name in names}


def _thirds(low, high):
    """Three bands, equal in octaves."""
    edges = [round(low * (high / low) ** (k / 3), 1) for k in range(4)]
    return tuple(zip(edges, edges[1:]))


def moabb_configs(names=None, **options) -> list[dict]:
    """Make the list of pipelines that ``moabb.benchmark(pipelines=...)`` takes.

    Parameters
    ----------
    names : iterable of str, default=None
        See :func:`make_pipelines`.
    **options
        Passed on to :func:`make_pipelines`.

    Returns
    -------
    configs : list of dict
        Keys "name", "paradigms", "pipeline" and "citations".

    Examples
    --------
    >>> from sklr.eeg import moabb_configs
    >>> moabb_configs(["TS+LR"])[0]["paradigms"]
    ['LeftRightImagery']
    """
    return [
        {
            "name": name,
            "paradigms": ["LeftRightImagery"],
            "citations": CITATIONS[name],
            "pipeline": pipeline,
        }
        for name, pipeline in make_pipelines(names, **options).items()
    ]


def pipelines_folder(copy_to=None) -> str:
    """Return the folder of ``.yml`` pipelines for ``moabb.benchmark(pipelines=...)``.

    Parameters
    ----------
    copy_to : path-like, default=None
        Folder to copy the files into, made if needed. MOABB writes a lock file beside each file
        that it reads: give a folder of your own where the installation is read-only, or to
        choose and change the files.

    Returns
    -------
    folder : str
        Path of the folder: the copy, or the one inside the installed package. Its subfolder
        ``comparison`` has the search by MOABB's own grid, at many times the cost of ours.

    Examples
    --------
    >>> import os
    >>> from sklr.eeg import pipelines_folder
    >>> "acm_svm_nested.yml" in os.listdir(pipelines_folder())
    True
    """
    source = pathlib.Path(__file__).parent / "pipelines"
    if copy_to is None:
        return str(source)
    copy = pathlib.Path(copy_to)
    copy.mkdir(parents=True, exist_ok=True)
    for file in source.rglob("*.yml"):
        target = copy / file.relative_to(source)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, target)
    return str(copy)
