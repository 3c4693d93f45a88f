"""Which experiments the main job knows, and what goes with each."""

from typing import Any, NamedTuple

from sklr.datasets._eeg import MOTOR_CHANNELS, VISUAL_CHANNELS

_PIPELINES = ("MDM", "CSP+LDA", "TS+LR", "ACM(3,2)+TS+SVM", "ACM average+TS+SVM")


class Paradigm(NamedTuple):
    """What is usual for one kind of experiment."""

    moabb: str  # class in moabb.paradigms
    band: tuple[float, float]
    channels: tuple[str, ...] | None  # those over the area that answers; None takes all
    pipelines: tuple[str, ...]
    what: str


PARADIGMS = {
    "left-right": Paradigm(
        "LeftRightImagery",
        (8.0, 35.0),
        MOTOR_CHANNELS,
        (*_PIPELINES, "ACM+TS+SVM nested", "ACM+TS+SVM MDOP"),
        "imagined movements of the left and the right hand",
    ),
    "imagery": Paradigm(
        "MotorImagery", (8.0, 35.0), MOTOR_CHANNELS, _PIPELINES, "all imagined movements"
    ),
    "ssvep": Paradigm(
        "SSVEP",
        (5.0, 45.0),
        VISUAL_CHANNELS,
        (
            "MDM",
            "TS+LR",
            "FB+TS+LR",
            "ACM(5,3)+TS+SVM",
            "ACM average+TS+SVM",
            "ACM bands+TS+SVM",
        ),
        "flickering stimuli that are looked at",
    ),
    "p300": Paradigm(
        "P300",
        (1.0, 24.0),
        None,
        ("XDAWN+TS+LR", "TS+LR", "ACM(3,2)+TS+SVM"),
        "rare stimuli among frequent ones",
    ),
}


def paradigm_of(data: Any) -> str:
    """Name of the paradigm that a dataset of MOABB is for.

    Raises
    ------
    ValueError
        The main job has none for it.
    """
    if data.paradigm == "imagery":
        both = {"left_hand", "right_hand"} <= set(data.event_id)
        return "left-right" if both else "imagery"
    if data.paradigm in PARADIGMS:
        return data.paradigm
    raise ValueError(
        f"{data.code} is a dataset of the paradigm {data.paradigm!r}; the main job takes imagery, "
        "ssvep and p300."
    )


def check_paradigm(name: str, data: Any) -> str:
    """Return the paradigm's name, "auto" resolved; refuse one that is not the dataset's."""
    own = paradigm_of(data)
    if name == "auto":
        return own
    if name not in PARADIGMS:
        raise ValueError(f"paradigm must be 'auto' or one of {list(PARADIGMS)}, got {name!r}.")
    imagery = ("left-right", "imagery")
    if name != own and not (own in imagery and name in imagery):
        raise ValueError(f"{data.code} is a dataset for paradigm={own!r}, not {name!r}.")
    if name == "left-right" and own != name:
        raise ValueError(f"{data.code} has no trials of left_hand and right_hand.")
    return name
