"""The HTTP API of a worker: app.py (routes), server.py (uvicorn), health.py, problems.py (errors).

Nothing is imported here: the client needs problems.py and identity.py without FastAPI behind them.
"""
