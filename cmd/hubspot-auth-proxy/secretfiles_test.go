package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// mountedSecret is a folder of files as Kubernetes mounts a Secret: the files are links
// into ..data, which is a link to the folder of the present version.
type mountedSecret struct {
	t       *testing.T
	dir     string
	version int
}

func mountSecret(t *testing.T, files map[string]string) *mountedSecret {
	t.Helper()
	m := &mountedSecret{t: t, dir: t.TempDir()}
	m.replace(files)
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), m.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *mountedSecret) path(name string) string { return filepath.Join(m.dir, name) }

// replace replaces all files at once.
func (m *mountedSecret) replace(files map[string]string) {
	m.t.Helper()
	m.version++
	version := m.path("..v" + string(rune('0'+m.version)))
	steps := []error{os.Mkdir(version, 0o700)}
	for name, content := range files {
		steps = append(steps, os.WriteFile(filepath.Join(version, name), []byte(content), 0o600))
	}
	steps = append(steps, os.Symlink(version, m.path("..data_tmp")), os.Rename(m.path("..data_tmp"), m.path("..data")))
	for _, err := range steps {
		if err != nil {
			m.t.Fatal(err)
		}
	}
}

func TestAReplacedFileOfAStaticCredentialIsReadAtOnceAfterA401(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]string{"with an id": {"HUBSPOT_PORTAL_ID=62516"}, "without an id": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := hubspottest.NewServer()
			t.Cleanup(hub.Close)
			hub.SetAccessToken("62516", hubspottest.Canary+"-1")
			m := mountSecret(t, map[string]string{"token": hubspottest.Canary + "-1\n"})
			p := launch(t, "serve", append(settings, "UPSTREAM_URL="+hub.URL, "HUBSPOT_ACCESS_TOKEN_FILE="+m.path("token"))...)
			url := "http://" + p.address() + "/crm/v3/objects/contacts"
			if got := categoryOf(t, url, ""); got != "200 " {
				t.Fatal(got)
			}
			hub.SetAccessToken("62516", hubspottest.Canary+"-2")
			m.replace(map[string]string{"token": hubspottest.Canary + "-2\n"})
			if got := categoryOf(t, url, ""); got != "200 " {
				t.Errorf("the first call after the change is answered with %s", got)
			}
			// An empty file changes nothing.
			m.replace(map[string]string{"token": "\n"})
			p.until(`the previous value stays in use.*is empty`)
			if got := categoryOf(t, url, ""); got != "200 " {
				t.Errorf("with an empty file: %s", got)
			}
			if text := p.end(); strings.Contains(text, hubspottest.Canary) {
				t.Errorf("a secret is printed:\n%s", text)
			}
		})
	}
}

func TestReplacedFilesOfOtherSecretsTakeEffectWithinFiveSeconds(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	secrets := map[string]string{
		"client-secret": hubspottest.Canary + "-wrong", "password": hubspottest.Canary + "-password-1", "redis": "", "refresh": hub.Connect("62515"),
	}
	m := mountSecret(t, secrets)
	admin := freePort(t)
	p := launch(t, "serve", "UPSTREAM_URL="+hub.URL, "ADMIN_ADDR="+admin, "HUBSPOT_PORTAL_ID=62515", "HUBSPOT_CLIENT_ID="+hubspottest.ClientID,
		"HUBSPOT_CLIENT_SECRET_FILE="+m.path("client-secret"), "ADMIN_PASSWORD_FILE="+m.path("password"), "HUBSPOT_REFRESH_TOKEN_FILE="+m.path("refresh"))
	url := "http://" + p.address() + "/crm/v3/objects/contacts"
	if got := categoryOf(t, url, ""); got != "503 CREDENTIAL_UNAVAILABLE" {
		t.Fatalf("with a wrong client secret: %s", got)
	}
	opens := func(password string) bool {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/", nil)
		request.SetBasicAuth("admin", password)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	}
	if !opens(hubspottest.Canary + "-password-1") {
		t.Fatal("the password does not open the page")
	}
	began := time.Now()
	secrets["client-secret"], secrets["password"] = hubspottest.ClientSecret, hubspottest.Canary+"-password-2"
	m.replace(secrets)
	p.until(`settings have changed, and are in effect.*HUBSPOT_CLIENT_SECRET.*ADMIN_PASSWORD`)
	if got := categoryOf(t, url, ""); got != "200 " {
		t.Errorf("with the right client secret: %s", got)
	}
	if !opens(hubspottest.Canary+"-password-2") || opens(hubspottest.Canary+"-password-1") {
		t.Error("the new password does not open the page, or the old one does")
	}
	if took := time.Since(began); took > 5*time.Second+time.Second/2 {
		t.Errorf("it took %v", took)
	}
	secrets["password"] = "short"
	m.replace(secrets)
	p.until(`the previous value stays in use.*ADMIN_PASSWORD.*has fewer than`)
	if !opens(hubspottest.Canary + "-password-2") {
		t.Error("a faulty password takes the former one's place")
	}
	if text := p.end(); strings.Contains(text, hubspottest.Canary) {
		t.Errorf("a secret is printed:\n%s", text)
	}
}
