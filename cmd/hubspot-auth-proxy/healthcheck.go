package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens/secret"
)

const healthcheckManual = `Asks the proxy on this machine, at the port of ADMIN_ADDR, whether it is ready
(/readyz). Other settings, and secrets, are not read. For probes in an image without a
shell:

  HEALTHCHECK CMD ["hubspot-auth-proxy", "healthcheck"]                              # Docker
  readinessProbe: { exec: { command: [hubspot-auth-proxy, healthcheck] } }           # Kubernetes
  livenessProbe: { exec: { command: [hubspot-auth-proxy, healthcheck, --live] } }
`

// healthcheckTimeout is how long the proxy may take to answer.
const healthcheckTimeout = 3 * time.Second

func healthcheck(flags *flag.FlagSet) action {
	live := flags.Bool("live", false, "ask whether the process is alive (/healthz), even if it is not ready")
	return func(ctx context.Context, c *call) error {
		addr, err := adminAddr(c.environ)
		if err != nil {
			return err
		}
		path := "/readyz"
		if *live {
			path = "/healthz"
		}
		return askHealth(ctx, addr, path)
	}
}

// adminAddr returns the address of the admin listener to ask. adminAddr reads only
// ADMIN_ADDR and no secrets, so that a probe does not fail because of another setting.
func adminAddr(environ []string) (string, error) {
	environ = slices.DeleteFunc(slices.Clone(environ), func(pair string) bool { return !strings.HasPrefix(pair, "ADMIN_ADDR=") })
	settings, err := config.Load(environ)
	if err != nil {
		return "", err
	}
	host, port, _ := net.SplitHostPort(settings.AdminAddr) // checked by Load
	if n, _ := strconv.Atoi(port); n == 0 {
		return "", config.Faults{{Name: "ADMIN_ADDR", Problem: "has port 0, so the system has chosen a port, which this command does not know", Remedy: "give the proxy a fixed port, such as 127.0.0.1:8081"}}
	}
	return reachable(host, port), nil
}

// reachable returns the address at which this machine reaches a listener, even if the
// listener is bound to all addresses.
func reachable(host, port string) string {
	switch ip, _ := netip.ParseAddr(host); {
	case host == "" || ip == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case ip.WithZone("") == netip.IPv6Unspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

// askHealth returns nil if the answer to GET path is 200.
func askHealth(ctx context.Context, addr, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: "http", Host: addr, Path: path}).String(), nil)
	if err != nil {
		return err
	}
	// The admin listener on loopback refuses other names in the Host header.
	request.Host = "localhost"
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true}, // HTTP_PROXY is ignored
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       healthcheckTimeout,
	}
	response, err := client.Do(request)
	if err != nil {
		return noAnswer(addr, err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	var parts bytes.Buffer
	if json.Compact(&parts, body) != nil {
		return fmt.Errorf("%s answers %d to %s, and the answer is not one of this program; check whether another program has the port of ADMIN_ADDR", addr, response.StatusCode, path)
	}
	return fmt.Errorf("%s answers %d to %s: %s; see the proxy's log", addr, response.StatusCode, path, shown(parts.String()))
}

// noAnswer adds to an error of the HTTP client what the operator can do about the
// error.
func noAnswer(addr string, err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok && failed.Timeout() {
		return fmt.Errorf("no answer from %s within %v; the proxy is blocked, or another program has that port", addr, healthcheckTimeout)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("nothing listens on %s; start the proxy, or set ADMIN_ADDR to the value that the proxy has", addr)
	}
	return fmt.Errorf("no answer from %s; check whether ADMIN_ADDR is the value that the proxy has: %w", addr, secret.Cause(err))
}
