# The service as an image: what is installed is pinned by hash, and nothing runs as root.
#   docker build -t pain-diary .
#   docker run --env-file .env pain-diary pain-diary migrate    before the first start and after each upgrade
#   docker run --env-file .env -p 8000:8000 pain-diary

FROM python:3.11-slim-bookworm AS builder
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /srv
COPY requirements.lock requirements-dev.lock ./
# From the development lock only setuptools, with its hashes: it builds the package and is removed again.
RUN python -m venv .venv \
    && awk '/^[^ #]/ { wanted = /^setuptools==/ } wanted' requirements-dev.lock > build.lock \
    && .venv/bin/python -m pip install --no-deps --only-binary :all: --require-hashes -r requirements.lock \
    && .venv/bin/python -m pip install --no-deps --only-binary :all: --require-hashes -r build.lock \
    && .venv/bin/python -m pip check
COPY pyproject.toml README.md ./
COPY migrations migrations
COPY app app
# Editable, so that the package finds and the migrations beside it.
RUN .venv/bin/python -m pip install --no-deps --no-build-isolation -e . \
    && .venv/bin/python -m pip uninstall -y setuptools pip \
    && rm requirements.lock requirements-dev.lock build.lock

FROM python:3.11-slim-bookworm
RUN useradd --system --user-group --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin diary \
    && install -d -o diary -g diary -m 700 /keys
COPY --from=builder /srv /srv
ENV PATH=/srv/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DIARY_HOST=0.0.0.0 \
    DIARY_SIGNING_KEYS_DIRECTORY=/keys
WORKDIR /srv
USER diary
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('DIARY_PORT', '8000')}/livez\", timeout=4)"]
CMD ["pain-diary", "serve"]
