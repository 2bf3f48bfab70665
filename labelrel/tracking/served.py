"""The code of a registered model: MLflow keeps a copy of this file with the adapter, and nothing is pickled.

What answers is `labelrel.answering`, of the labelrel that is installed where the model is loaded.
"""

from __future__ import annotations

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Aligned(PythonModel):  # type: ignore[misc]
    """A strong model with its adapter, asked as it was trained to be."""

    _skip_type_hint_validation = True  # MLflow would have types at `predict`; the model has a signature

    def load_context(self, context: Any) -> None:
        """Load the base by its reference, which labelrel fetches, and put the adapter on it."""
        from labelrel.answering import Answering

        self.answering = Answering.load(context.model_config, context.artifacts["adapter"])

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Return one row per question: `answer, label, logprob`."""
        return self.answering.answer(model_input.to_dict("records"))


set_model(Aligned())
