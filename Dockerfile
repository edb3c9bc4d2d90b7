# Every program of Tocsin, in one image: the command says which.
FROM rust:1.95-slim-trixie AS build
WORKDIR /src
# jemalloc is built with it.
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
    && mkdir /programs \
    && find target/release -maxdepth 1 -type f -executable -exec cp {} /programs/ \; \
    && strip --strip-debug /programs/*

FROM debian:trixie-slim AS programs
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin tocsin
COPY --from=build /programs/ /usr/local/bin/
USER 10001:10001
ENV TOCSIN_HEALTH__LISTEN=0.0.0.0:9464
EXPOSE 9464
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD ["tocsin", "ready"]
CMD ["tocsin", "--help"]

# An SQS emulator, and the tools to make a queue in it.
FROM python:3-slim AS sqs
RUN pip install --no-cache-dir ministack==1.5.33 awscli==1.46.3 \
    && useradd --system --uid 10002 --create-home --shell /usr/sbin/nologin ministack \
    && mkdir /state && chown 10002:10002 /state
USER 10002:10002
ENV GATEWAY_PORT=4566 BIND_HOST=0.0.0.0 MINISTACK_HOST=sqs SERVICES=sqs,sns PERSIST_STATE=1 STATE_DIR=/state \
    S3_DATA_DIR=/tmp/s3 LOG_LEVEL=WARNING PYTHONUNBUFFERED=1
EXPOSE 4566
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=5 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:4566/_ministack/health')"]
CMD ["python", "-m", "ministack"]
