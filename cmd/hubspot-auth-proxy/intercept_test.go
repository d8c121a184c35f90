package main

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// An interception is a running proxy with a CA.
type interception struct {
	*process
	client *http.Client // sends its requests through a tunnel
	admin  string
	key    []string // the CA's, in all forms that could be printed
}

// startIntercepting makes a CA with the command, and starts a proxy with it.
func startIntercepting(t *testing.T, settings ...string) *interception {
	t.Helper()
	folder := t.TempDir()
	if err := run(t.Context(), []string{"ca", "generate", "--out", folder}, nil, nil, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	i := &interception{admin: freePort(t)}
	paths := []string{filepath.Join(folder, "ca.pem"), filepath.Join(folder, "ca-key.pem")}
	i.process = launch(t, "serve", append(settings, "ADMIN_ADDR="+i.admin, "LOG_LEVEL=debug",
		"INTERCEPT_CA_CERT_FILE="+paths[0], "INTERCEPT_CA_KEY_FILE="+paths[1])...)
	certificate, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(paths[1])
	if err != nil {
		t.Fatal(err)
	}
	i.key = formsOf(t, certificate, key)
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(certificate)
	transport := &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: i.address(), User: url.UserPassword("62515", "x")}),
		TLSClientConfig: &tls.Config{RootCAs: trusted},
	}
	t.Cleanup(transport.CloseIdleConnections)
	i.client = &http.Client{Transport: transport}
	return i
}

// formsOf returns the forms in which a private key could be printed.
func formsOf(t *testing.T, certificate, key []byte) []string {
	t.Helper()
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	scalar, err := pair.PrivateKey.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(key)
	forms := []string{fmt.Sprint(scalar)[1:60]}
	for _, bytes := range [][]byte{scalar, block.Bytes} {
		forms = append(forms, hex.EncodeToString(bytes), base64.StdEncoding.EncodeToString(bytes)[4:40], base64.RawURLEncoding.EncodeToString(bytes)[4:40])
	}
	return append(forms, strings.Split(string(key), "\n")[1:3]...)
}

// noKey fails the test if text has the CA's key.
func (i *interception) noKey(where, text string) {
	i.t.Helper()
	if slices.ContainsFunc(i.key, func(form string) bool {
		return form != "" && !strings.HasPrefix(form, "-----") && strings.Contains(text, form)
	}) {
		i.t.Errorf("%s has the CA's key", where)
	}
}

func TestTheKeyOfTheCAIsInNoLogPageOrCrash(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	i := startIntercepting(t, oauth(hub)...)
	var answers strings.Builder
	for _, target := range []string{"https://api.hubapi.com/a", "https://api.hubspot.com/portals/x/a", "https://evil.example/a"} {
		response, err := i.client.Get(target)
		if err != nil {
			fmt.Fprintln(&answers, err)
			continue
		}
		_ = response.Write(&answers)
		_ = response.Body.Close()
	}
	if !strings.Contains(answers.String(), `"Portal": "62515"`) {
		t.Errorf("no tunnel: %s", answers.String())
	}
	i.noKey("an answer", answers.String())
	for _, path := range []string{"/", "/metrics", "/readyz", "/healthz", "/connect", "/nothing"} {
		_, text := get(t, "http://"+i.admin+path)
		i.noKey(path, text)
	}
	var printed testkit.Output
	if err := run(t.Context(), []string{"config"}, i.Env, nil, &printed, &printed); err != nil {
		t.Fatal(err)
	}
	i.noKey("config", printed.String())

	if err := i.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	i.exit()
	text := i.stdout.String() + i.stderr.String()
	if !strings.Contains(text, "goroutine ") || !strings.Contains(text, "proxy/intercept.") {
		t.Errorf("no crash: %s", text)
	}
	i.noKey("the log or the crash", text)
}

func TestSIGTERMFinishesALongDownloadInATunnel(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	i := startIntercepting(t, oauth(hub)...)
	const size = 64 << 20 // much more than the buffers of sockets
	response, err := i.client.Get(fmt.Sprintf("https://api.hubapi.com/fake/download?bytes=%d", size))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body := &sequence{}
	if _, err := io.CopyN(body, response.Body, 100_000); err != nil {
		t.Fatal(err)
	}
	if status, text := get(t, "http://"+i.admin+"/metrics"); status != 200 || !strings.Contains(text, "\nhubspot_auth_proxy_tunnels 1\n") {
		t.Errorf("metrics: %d %s", status, text)
	}
	address := i.address()
	i.terminate()
	testkit.Eventually(t, "connections are refused", func() bool { return refuses(address) })
	if _, err := io.Copy(body, response.Body); err != nil || body.n != size || body.wrong != 0 {
		t.Errorf("%d of %d bytes, %d of them wrong, %v", body.n, size, body.wrong, err)
	}
	if status := i.exit(); status != 0 {
		t.Errorf("exit status %d:\n%s", status, i.stderr.String())
	}
}

func TestADownloadInATunnelThatTakesTooLongIsBrokenOff(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	i := startIntercepting(t, append(oauth(hub), "SHUTDOWN_TIMEOUT=1ms")...)
	response, err := i.client.Get("https://api.hubapi.com/fake/download?bytes=100000000")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	i.terminate()
	if status := i.exit(); status != 0 {
		t.Errorf("exit status %d:\n%s", status, i.stderr.String())
	}
	if _, err := io.Copy(io.Discard, response.Body); err == nil {
		t.Error("the download has ended without an error")
	}
	i.until(`the requests that are still under way are broken off`)
}

func TestIdleTunnelsAreClosedToAcceptOtherConnections(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	const most = 3
	i := startIntercepting(t, append(oauth(hub), fmt.Sprint("MAX_CONNECTIONS=", most))...)
	base := i.client.Transport.(*http.Transport)
	for range 3 * most {
		transport := base.Clone()
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get("https://api.hubapi.com/a")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if status, _ := get(t, "http://"+i.address()+"/a"); response.StatusCode != 200 || status != 200 {
			t.Errorf("status %d, and %d directly", response.StatusCode, status)
		}
	}
	families, _ := scrape(t, i.admin)
	if open := value(families, "tunnels"); open > most {
		t.Errorf("%v tunnels are open", open)
	}
}
