# akasha-stream: one image for every command; `worker` by default.

FROM python:3.13-slim AS build
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip pip install uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /app
# The packages first: they change less often than the code.
COPY pyproject.toml uv.lock .python-version README.md LICENSE ./
RUN --mount=type=cache,target=/root/.cache/uv uv sync --locked --no-dev --extra onnx --extra otlp --extra s3 --no-install-project
COPY akasha_stream ./akasha_stream
COPY settings ./settings
COPY topics ./topics
RUN --mount=type=cache,target=/root/.cache/uv uv sync --locked --no-dev --extra onnx --extra otlp --extra s3 --no-editable

FROM python:3.13-slim
RUN groupadd --system --gid 10001 akasha \
    && useradd --system --uid 10001 --gid akasha --home-dir /var/lib/akasha-stream --create-home --shell /usr/sbin/nologin akasha
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AKASHA_DATA_DIR=/var/lib/akasha-stream
# A number: Kubernetes' runAsNonRoot can't judge a name.
USER 10001:10001
WORKDIR /var/lib/akasha-stream
VOLUME /var/lib/akasha-stream
EXPOSE 8470
# A worker that has been told to stop commits its batch first.
STOPSIGNAL SIGTERM
# With TLS the certificate is for the worker's name, which is not asked for here.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as r; r.urlopen(('https' if os.environ.get('AKASHA_TLS_CERTIFICATE') else 'http') + '://127.0.0.1:8470/health/live', timeout=2, context=ssl._create_unverified_context())"]
ENTRYPOINT ["akasha-stream"]
CMD ["worker"]
