# One image for all roles: collector, tasks, simulator, operator. No build tool, compiler or pip in the last stage.
FROM python:3.13-slim AS build

# Of pip, from the builder's own environment where they are set (see tools/build-image); none stands here.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

WORKDIR /src
RUN python3 -m venv /opt/crypto-lake
COPY requirements/image.lock requirements/image.lock
RUN /opt/crypto-lake/bin/pip install --no-compile --require-hashes -r requirements/image.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY operator operator
# What only built the wheel goes again; `pip check` fails the build if something else needed it.
RUN /opt/crypto-lake/bin/pip install --no-compile --no-deps --no-build-isolation . \
 && /opt/crypto-lake/bin/pip uninstall --yes editables hatchling packaging pathspec pluggy tomlkit trove-classifiers \
 && /opt/crypto-lake/bin/pip check \
 && /opt/crypto-lake/bin/pip uninstall --yes pip \
 && find /opt/crypto-lake/bin -type f ! -name 'crypto-lake*' -delete
# Bytecode now, since later nothing can be written; the pyc files do not depend on times.
RUN /opt/crypto-lake/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/crypto-lake/lib


FROM python:3.13-slim

# The base image has no bytecode of the standard library, and the root file system is read-only later.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash -x '/(test|tests|idlelib|site-packages|dist-packages)/' \
      "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin lake \
 && install -d -o 10001 -g 10001 /data
COPY --from=build /opt/crypto-lake /opt/crypto-lake

ENV PATH=/opt/crypto-lake/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONFAULTHANDLER=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CRYPTO_LAKE_DATA=/data \
    CRYPTO_LAKE_COLLECTOR_LISTEN=0.0.0.0

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="crypto-lake" \
      org.opencontainers.image.description="A crypto market-data lake that proves, by trade id, what it has and what it misses" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 9464
# Exec form: the program is process 1 and gets SIGTERM itself.
ENTRYPOINT ["crypto-lake"]
CMD ["run"]
