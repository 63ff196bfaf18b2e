# Debian's Prometheus, for the test cluster.
FROM python:3.13-slim
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends prometheus \
 && rm -rf /var/lib/apt/lists/*
USER 10001:10001
ENTRYPOINT ["prometheus"]
