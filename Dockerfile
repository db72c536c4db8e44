# ringfeed alone, in a small image. `docker compose up` builds it (compose.yaml).
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked && strip target/release/ringfeed

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/ringfeed --create-home ringfeed
COPY --from=build /src/target/release/ringfeed /usr/local/bin/ringfeed
USER ringfeed
VOLUME /var/lib/ringfeed
EXPOSE 50051 9464
ENTRYPOINT ["ringfeed"]
# Beyond the container's own loopback nothing is served until the flags for that are said:
# compose.yaml does, and publishes the ports on this machine's loopback only.
CMD ["serve", "--data-dir", "/var/lib/ringfeed"]
