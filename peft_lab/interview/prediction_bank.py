"""The predictions by id: each a common belief and the experiment that settles it."""

from __future__ import annotations

from functools import cache

from peft_lab.core.errors import UnknownName
from peft_lab.interview import predicted_behaviour, predictions
from peft_lab.interview.predictions import Prediction


@cache
def all_predictions() -> dict[str, Prediction]:
    """Return every prediction by id."""
    return {
        prediction.id: prediction
        for prediction in (*predictions.PREDICTIONS, *predicted_behaviour.PREDICTIONS)
    }


def get_prediction(name: str) -> Prediction:
    """Return a prediction by id. Raises :class:`UnknownName` with the nearest one."""
    try:
        return all_predictions()[name]
    except KeyError:
        raise UnknownName("prediction", name, all_predictions()) from None
