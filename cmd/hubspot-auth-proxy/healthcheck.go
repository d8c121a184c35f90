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

const healthcheckManual = `Asks the proxy that runs with this same ADMIN_ADDR whether it can serve: /readyz
on this machine. No other setting is read, and no secret. For probes in an image
without a shell:

  HEALTHCHECK CMD ["hubspot-auth-proxy", "healthcheck"]                              # Docker
  readinessProbe: { exec: { command: [hubspot-auth-proxy, healthcheck] } }           # Kubernetes
  livenessProbe: { exec: { command: [hubspot-auth-proxy, healthcheck, --live] } }
`

// healthcheckTime is how long a healthy proxy may take to say so.
const healthcheckTime = 3 * time.Second

func healthcheck(flags *flag.FlagSet) action {
	live := flags.Bool("live", false, "ask whether it lives (/healthz), be it ready or not")
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

// adminAddr returns where to ask. It looks at ADMIN_ADDR alone: a probe is no
// worse for another setting that is wrong by now, and reads no secret.
func adminAddr(environ []string) (string, error) {
	environ = slices.DeleteFunc(slices.Clone(environ), func(pair string) bool { return !strings.HasPrefix(pair, "ADMIN_ADDR=") })
	settings, err := config.Load(environ)
	if err != nil {
		return "", err
	}
	host, port, _ := net.SplitHostPort(settings.AdminAddr) // checked by Load
	if n, _ := strconv.Atoi(port); n == 0 {
		return "", config.Faults{{Name: "ADMIN_ADDR", Problem: "has port 0: the system chose another, which is not known here", Remedy: "give the proxy a port, such as 127.0.0.1:8081"}}
	}
	switch ip, _ := netip.ParseAddr(host); {
	case host == "" || ip == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case ip.WithZone("") == netip.IPv6Unspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}

// askHealth returns nil if the answer to a GET is 200.
func askHealth(ctx context.Context, addr, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: "http", Host: addr, Path: path}).String(), nil)
	if err != nil {
		return err
	}
	// A listener on loopback serves no other names, such as a host's own.
	request.Host = "localhost"
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true}, // without HTTP_PROXY
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       healthcheckTime,
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
		return fmt.Errorf("%s answers %d to %s, which is not this program's answer; check whether another one has the port of ADMIN_ADDR", addr, response.StatusCode, path)
	}
	return fmt.Errorf("%s answers %d to %s: %s; the proxy's log tells more", addr, response.StatusCode, path, shown(parts.String()))
}

// noAnswer says what to do about an error of the client.
func noAnswer(addr string, err error) error {
	if failed := (*url.Error)(nil); errors.As(err, &failed) && failed.Timeout() {
		return fmt.Errorf("no answer from %s within %v; the proxy hangs, or another program has that port", addr, healthcheckTime)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("nothing listens on %s; start the proxy, or set ADMIN_ADDR to what it has there", addr)
	}
	return fmt.Errorf("no answer from %s, check whether ADMIN_ADDR is what the proxy has: %w", addr, secret.Cause(err))
}
