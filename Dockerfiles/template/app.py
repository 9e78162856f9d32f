"""A GPU service: loads its model once, answers on POST /predict, and is healthy when the model is ready."""

import torch
from fastapi import FastAPI
from pydantic import BaseModel

# The GPU where there is one: the same image can be tried on a laptop.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def load_model() -> torch.nn.Module:
    """CHANGE: load your model. Weights belong into a volume (see the compose snippet), not into the image."""
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, -1.0]]))
        model.bias.fill_(0.5)
    return model.eval().to(DEVICE)


class Question(BaseModel):
    """CHANGE: what a caller sends."""

    rows: list[tuple[float, float]]


app = FastAPI()

# At import, so before the server listens: until then /health does not answer, and nothing is sent here.
model = load_model()


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok", "torch": torch.__version__, "device": DEVICE}


@app.post("/predict")
def predict(question: Question) -> dict[str, list[float]]:
    with torch.inference_mode():
        rows = torch.tensor(question.rows, dtype=torch.float32, device=DEVICE).reshape(-1, 2)
        return {"predictions": model(rows).flatten().tolist()}
