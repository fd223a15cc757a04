# Build: docker build -t close-bridge .
FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
      build-essential ca-certificates cmake ninja-build pkg-config \
      libcurl4-openssl-dev libh2o-evloop-dev liblmdb-dev libmosquitto-dev libmsgpack-dev \
      librdkafka-dev libsimdjson-dev libssl-dev libxxhash-dev libyaml-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cmake --preset release && cmake --build --preset release --target close-bridge \
    && strip build/release/bridge/close-bridge

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends \
      ca-certificates libcurl4 libh2o-evloop0.13 liblmdb0 libmosquitto1 libmsgpackc2 librdkafka1 \
      libsimdjson14 libssl3 libxxhash0 libyaml-0-2 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /var/lib/close-bridge --shell /usr/sbin/nologin close-bridge \
    && install -d -o close-bridge -g close-bridge -m 0700 /var/lib/close-bridge
COPY --from=build /src/build/release/bridge/close-bridge /usr/bin/close-bridge
COPY packaging/docker/close-bridge.yaml /etc/close-bridge/close-bridge.yaml
USER 10001
VOLUME /var/lib/close-bridge
EXPOSE 8080 8081
ENV CLOSE_BRIDGE_CONFIG=/etc/close-bridge/close-bridge.yaml
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["close-bridge", "status"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["close-bridge"]
CMD ["serve"]
