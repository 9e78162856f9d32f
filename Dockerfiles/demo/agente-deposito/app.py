"""agente-deposito: says how much of an article the warehouse should order again, from its recent sales."""

import torch
from fastapi import FastAPI
from pydantic import BaseModel, Field


class Article(BaseModel):
    daily_sales: list[float] = Field(min_length=2)
    stock: int = Field(ge=0)
    lead_days: int = Field(ge=1, le=90)


app = FastAPI(title="agente-deposito")


def forecast(daily_sales: list[float], days: int) -> float:
    """Continues the straight line through the sales so far; never below zero on any day."""
    sales = torch.tensor(daily_sales, dtype=torch.float64)
    past = torch.arange(len(daily_sales), dtype=torch.float64)
    line = torch.linalg.lstsq(torch.stack([past, torch.ones_like(past)], dim=1), sales.unsqueeze(1)).solution
    future = torch.arange(len(daily_sales), len(daily_sales) + days, dtype=torch.float64)
    return float((future * line[0] + line[1]).clamp(min=0).sum())


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok", "torch": torch.__version__}


@app.post("/reorder")
def reorder(article: Article) -> dict[str, float]:
    expected = forecast(article.daily_sales, article.lead_days)
    return {"expected_sales": round(expected, 2), "order": max(0, round(expected - article.stock))}
