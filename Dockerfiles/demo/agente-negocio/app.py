"""agente-negocio: chooses the price of an article that earns most, for the demand that ml predicts."""

import os

import httpx
import torch
from flask import Flask, jsonify, request

ML_URL = os.environ.get("ML_URL", "http://ml:8000")

app = Flask(__name__)


def best_price(cost: float, demand: float) -> tuple[float, float]:
    """Compares a hundred prices between cost and four times the cost; demand falls as the price rises."""
    prices = torch.linspace(cost, 4 * cost, 100, dtype=torch.float64)
    sold = demand * torch.exp(-(prices - cost) / cost)
    profits = (prices - cost) * sold
    best = int(profits.argmax())
    return round(float(prices[best]), 2), round(float(profits[best]), 2)


@app.get("/health")
def health():
    return jsonify(status="ok", torch=torch.__version__)


@app.get("/offer")
def offer():
    try:
        cost, season = float(request.args["cost"]), float(request.args.get("season", 0))
    except (KeyError, ValueError):
        return jsonify(error="cost and season must be numbers: /offer?cost=10&season=0.5"), 400
    if cost <= 0:
        return jsonify(error="cost must be more than 0"), 400
    try:
        answer = httpx.get(f"{ML_URL}/predict", params={"x": season}, timeout=5).raise_for_status().json()
    except httpx.HTTPError as error:
        return jsonify(error=f"ml does not answer: {type(error).__name__}"), 503
    demand = 100 * 2 ** answer["prediction"]
    price, profit = best_price(cost, demand)
    return jsonify(demand=round(demand, 2), price=price, profit=profit)
