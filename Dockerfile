# One image for all roles: collector, tasks, simulator, operator, dashboard. No build tool, compiler or pip in the last stage.
# What changes seldom, the dependencies, is a layer of its own, so that another version of the program is small to pull.
FROM python:3.13-slim AS installed

# Of pip, from the builder's own environment where they are set (see tools/build-image); none stands here.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

WORKDIR /src
# For `strip`. Where Debian's packages can't be had the image is made all the same, and is 100 MB larger.
RUN { apt-get update -q && apt-get install -q -y --no-install-recommends binutils; } >/dev/null 2>&1 \
 || echo 'no binutils: what is compiled keeps its symbols'
RUN python3 -m venv /opt/crypto-lake
COPY requirements/image.lock requirements/image.lock
RUN /opt/crypto-lake/bin/pip install --no-compile --require-hashes -r requirements/image.lock


FROM installed AS dependencies

# What only builds the wheel goes again; `pip check` fails the build if something else needed it.
RUN /opt/crypto-lake/bin/pip uninstall --yes editables hatchling pathspec pluggy tomlkit trove-classifiers \
 && /opt/crypto-lake/bin/pip check \
 && /opt/crypto-lake/bin/pip uninstall --yes pip \
 && find /opt/crypto-lake/bin -type f -delete
# What nothing here reads: tests, headers, types, what is for notebooks, the parts of Arrow for S3 and Flight, symbols.
# The libraries of *.libs were changed after they were linked, which `strip` does not always survive.
RUN cd /opt/crypto-lake/lib/python3*/site-packages \
 && find . -type d -name tests -prune -exec rm -r {} + \
 && find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.a' -o -name '*.h' \) -delete \
 && rm -r pyarrow/include pyarrow/src pyarrow/*flight* pyarrow/*_s3* pyarrow/_pyarrow_cpp_tests* \
      pydeck/nbextension/static plotly/labextension plotly/package_data/widgetbundle.js \
 && { ! command -v strip >/dev/null \
      || find . -name '*.so*' -type f ! -path '*.libs/*' -exec strip --strip-unneeded {} +; }
# Bytecode now, since later nothing can be written; the pyc files do not depend on times. Of these two, most of which
# a generator wrote, there is nothing but the bytecode: their sources are a tenth of the image.
RUN cd /opt/crypto-lake/lib/python3*/site-packages \
 && /opt/crypto-lake/bin/python -m compileall -q -b --invalidation-mode unchecked-hash kubernetes plotly \
 && find kubernetes plotly -name '*.py' -delete \
 && /opt/crypto-lake/bin/python -m compileall -q --invalidation-mode unchecked-hash -x '/(kubernetes|plotly)/' .


FROM installed AS program

COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY operator operator
# `pip check`: what the program needs is what the lock holds.
RUN /opt/crypto-lake/bin/pip install --no-compile --no-deps --no-build-isolation --prefix /program . \
 && PYTHONPATH=$(echo /program/lib/python3*/site-packages) /opt/crypto-lake/bin/pip check \
 && /opt/crypto-lake/bin/python -m compileall -q --invalidation-mode unchecked-hash -s /program -p /opt/crypto-lake /program


FROM python:3.13-slim

# The base image has no bytecode of the standard library, and the root file system is read-only later.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash -x '/(test|tests|idlelib|site-packages|dist-packages)/' \
      "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin lake \
 && install -d -o 10001 -g 10001 /data
COPY --from=dependencies /opt/crypto-lake /opt/crypto-lake
COPY --from=program /program /opt/crypto-lake

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
EXPOSE 9464 8501
# Exec form: the program is process 1 and gets SIGTERM itself.
ENTRYPOINT ["crypto-lake"]
CMD ["run"]
