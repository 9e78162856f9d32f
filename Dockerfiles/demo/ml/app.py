"""ml: answers predictions of a small network with fixed weights, so that the same question has the same answer."""

import numpy as np
import torch
from fastapi import FastAPI
from pydantic import BaseModel

HIDDEN = 8
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def build_model() -> torch.nn.Module:
    """Builds a network of one input, one hidden layer and one output."""
    model = torch.nn.Sequential(torch.nn.Linear(1, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 1))
    weights = np.linspace(-1.0, 1.0, HIDDEN, dtype=np.float32)
    with torch.no_grad():
        model[0].weight.copy_(torch.from_numpy(weights).reshape(HIDDEN, 1))
        model[0].bias.copy_(torch.from_numpy(weights[::-1].copy()))
        model[2].weight.copy_(torch.from_numpy(weights).reshape(1, HIDDEN))
        model[2].bias.fill_(0.5)
    return model.eval().to(DEVICE)


class Question(BaseModel):
    x: list[float]


app = FastAPI(title="ml")
model = build_model()


def predict(values: list[float]) -> list[float]:
    with torch.inference_mode():
        answers = model(torch.tensor(values, dtype=torch.float32, device=DEVICE).reshape(-1, 1))
    return [round(answer, 6) for answer in answers.flatten().tolist()]


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok", "torch": torch.__version__, "device": DEVICE}


@app.get("/predict")
def predict_one(x: float) -> dict[str, float]:
    return {"x": x, "prediction": predict([x])[0]}


@app.post("/predict")
def predict_many(question: Question) -> dict[str, list[float]]:
    return {"predictions": predict(question.x)}
