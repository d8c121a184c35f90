# The program alone: a static binary on an image that has CA certificates and
# no shell. It writes no file, so it runs with --read-only.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=1.2.3 .
#
# A tag can be moved to another image; a digest cannot. To build from exactly what
# was tried, write it behind the tag of both FROM lines, as @sha256:…, which this
# prints:
#
#   docker buildx imagetools inspect golang:1.26.8-alpine --format '{{.Manifest.Digest}}'
#
# Renovate does that by .github/renovate.json, and proposes newer ones.

# What the program and the image's label say; a release gives its own.
ARG VERSION=devel

# The compiler runs on the machine that builds, and makes code for the one that
# is asked for: emulating arm64 takes many times as long.
FROM --platform=$BUILDPLATFORM golang:1.26.8-alpine AS build
WORKDIR /src
COPY . .
ARG TARGETOS TARGETARCH VERSION
# The caches outlive the build, so that the next one compiles only what has
# changed. Without cgo nothing is linked to a C library, which the final image
# lacks. -trimpath and -buildvcs=false: the same source gives the same bytes,
# whatever lies around it; .git is not here to be read anyway.
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
# A container's loopback is out of everybody's reach, so both listeners are on
# all addresses. The proxy then asks for client keys, unless ALLOW_ANONYMOUS is
# set. The admin listener has to answer probes and Prometheus, and tells them no
# secret; its pages ask for ADMIN_PASSWORD, and are not served without one.
# Publish 8080 only.
ENV LISTEN_ADDR=:8080 ADMIN_ADDR=:8081
EXPOSE 8080 8081
# By number: Kubernetes' runAsNonRoot cannot tell who a name is.
USER 65532:65532
# Whether it can serve, rather than whether it lives: who waits for a healthy
# container wants to call it. An outage of Redis that is over soon does not make
# it unready, so nobody is restarted for that. At the start Redis has 30 seconds
# to answer. The command itself gives up after 3 seconds.
HEALTHCHECK --interval=5s --timeout=5s --start-period=40s --retries=3 CMD ["/hubspot-auth-proxy", "healthcheck"]
ENTRYPOINT ["/hubspot-auth-proxy"]
