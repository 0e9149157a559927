# The service as an image: what is installed is pinned by hash, and nothing runs as root.
#   docker build -t pain-diary .
#   docker run --env-file .env -v keys:/keys pain-diary pain-diary migrate    before the first start and each upgrade
#   docker run --env-file .env -v keys:/keys -p 8000:8000 pain-diary

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
COPY docs docs
COPY app app
RUN .venv/bin/python -m pip install --no-deps --no-build-isolation . \
    && .venv/bin/python -m pip uninstall -y setuptools pip

FROM python:3.11-slim-bookworm
RUN useradd --system --user-group --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin diary \
    && install -d -o diary -g diary -m 700 /keys
COPY --from=builder /srv/.venv /srv/.venv
COPY deploy/healthcheck.py /srv/
# In the file that is read last, and not by ENV: a setting that `--env-file .env` leaves empty would win over ENV.
COPY deploy/container.env /srv/.env
ENV PATH=/srv/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /srv
USER diary
VOLUME /keys
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["python", "healthcheck.py"]
CMD ["pain-diary", "serve"]
