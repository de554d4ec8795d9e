# syntax=docker/dockerfile:1
# The controller's image: one static binary, no shell, not root.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --tag registry.example.com/serin:0.1.0 --push .
#
# Give the bases by digest where what is built must be the same again:
#   --build-arg RUST_IMAGE=docker.io/library/rust@sha256:... --build-arg BASE_IMAGE=gcr.io/distroless/static@sha256:...

ARG RUST_IMAGE=docker.io/library/rust:1.89-bookworm
ARG BASE_IMAGE=gcr.io/distroless/static:nonroot

# The compiler runs on the machine that builds, whatever it builds for. Its glibc must be 2.34 or newer (bookworm
# has 2.36): from there on a static binary asks /etc/hosts and DNS without loading a library.
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS build
ARG TARGETARCH
WORKDIR /src
RUN set -eu; \
    case "$TARGETARCH" in \
      amd64) target=x86_64-unknown-linux-gnu; package=gcc-x86-64-linux-gnu; libc=libc6-dev-amd64-cross ;; \
      arm64) target=aarch64-unknown-linux-gnu; package=gcc-aarch64-linux-gnu; libc=libc6-dev-arm64-cross ;; \
      *) echo "no image for $TARGETARCH: amd64 and arm64 are built" >&2; exit 1 ;; \
    esac; \
    if [ "$(dpkg --print-architecture)" != "$TARGETARCH" ]; then \
      apt-get update; apt-get install -y --no-install-recommends "$package" "$libc"; rm -rf /var/lib/apt/lists/*; \
    fi; \
    rustup target add "$target"; \
    echo "$target" > /target
ENV CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CC_x86_64_unknown_linux_gnu=x86_64-linux-gnu-gcc \
    CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
    RUSTFLAGS="-C target-feature=+crt-static"
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=serin-target-$TARGETARCH \
    set -eu; target=$(cat /target); \
    cargo build --release --locked --bin serin --target "$target"; \
    cp "target/$target/release/serin" /serin

# Beside the binary it has the certificate authorities, without which no client starts.
FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="serin" \
      org.opencontainers.image.description="A progressive delivery controller for Kubernetes" \
      org.opencontainers.image.url="https://serin.dev" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build --chmod=0555 /serin /serin
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/serin"]
CMD ["run"]
