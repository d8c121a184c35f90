# The program alone: a static binary on an image that has CA certificates and no shell. The
# program writes no files, so it runs with --read-only.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=1.2.3 .
#
# A tag can be moved to another image; a digest cannot. To build from exactly the tested
# images, append their digests to both FROM lines, as @sha256:…. This prints a digest:
#
#   docker buildx imagetools inspect golang:1.26.8-alpine --format '{{.Manifest.Digest}}'
#
# Renovate appends the digests (.github/renovate.json), and proposes newer images.

# The version that the program and the image's label have. A release sets it.
ARG VERSION=devel

# The compiler runs on the platform of the build machine, and compiles for the target
# platform. Emulating arm64 would take many times as long.
FROM --platform=$BUILDPLATFORM golang:1.26.8-alpine AS build
WORKDIR /src
COPY . .
ARG TARGETOS TARGETARCH VERSION
# The cache mounts keep what is compiled, so that the next build compiles only what has
# changed. CGO_ENABLED=0, because the final image has no C library. -trimpath and
# -buildvcs=false, so that the same source gives the same binary in any folder.
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /hubspot-auth-proxy ./cmd/hubspot-auth-proxy

FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION
LABEL org.opencontainers.image.title="hubspot-auth-proxy" \
      org.opencontainers.image.description="An authenticating reverse proxy in front of api.hubapi.com" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /hubspot-auth-proxy /hubspot-auth-proxy
# Nothing outside can reach the loopback of a container, so both listeners are on all
# addresses. Clients then need client keys, unless ALLOW_ANONYMOUS is set. The admin
# listener answers probes and Prometheus, and shows them no secrets. Its pages need
# ADMIN_PASSWORD, and are not served without one. Publish port 8080 only.
ENV LISTEN_ADDR=:8080 ADMIN_ADDR=:8081
EXPOSE 8080 8081
# A number, because runAsNonRoot of Kubernetes cannot check a name.
USER 65532:65532
# The check is readiness, because anyone who waits for a healthy container wants to call the
# proxy. An outage of Redis after the start does not make the proxy unready, so it causes no
# restart. The command itself times out after 3 seconds.
HEALTHCHECK --interval=5s --timeout=5s --start-period=40s --retries=3 CMD ["/hubspot-auth-proxy", "healthcheck"]
ENTRYPOINT ["/hubspot-auth-proxy"]
