package hubspot_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/secret"
)

// fixed is a transport that always returns the same answer.
type fixed struct {
	status      int
	contentType string
	body        string
}

func (f fixed) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: f.status,
		Header:     http.Header{"Content-Type": {f.contentType}},
		Body:       io.NopCloser(strings.NewReader(f.body)),
		Request:    r,
	}, nil
}

// known are the problems that an error's text may have, which contain nothing of the
// answer.
var known = []string{
	"the answer is a web page", "the answer is not JSON", "the answer has no access_token",
	"the answer has a token that no header can carry", "the answer has no usable expires_in",
	"the answer is longer than 65536 bytes",
}

// FuzzRefresh checks that for every answer of the token endpoint, Refresh returns a usable
// token, or an error whose text has nothing of the answer except a code.
func FuzzRefresh(f *testing.F) {
	f.Add(200, "application/json", `{"access_token":"a","refresh_token":"r","expires_in":1800}`)
	f.Add(200, "application/json;charset=utf-8", `{"access_token":"","expires_in":"1"}`)
	f.Add(200, "text/html", `<html>`)
	f.Add(200, "", `{"access_token":"a","expires_in":1e3}`)
	f.Add(400, "application/json", `{"status":"BAD_REFRESH_TOKEN","error":"invalid_grant","message":"x"}`)
	f.Add(429, "application/json", `{"status":"error","message":"You have reached your rate limit."}`)
	f.Add(502, "text/html", `<html>Bad Gateway</html>`)
	f.Fuzz(func(t *testing.T, status int, contentType, body string) {
		app := &hubspot.App{TokenURL: "http://hubspot.invalid/", Client: &http.Client{Transport: fixed{status, contentType, body}}}
		token, err := app.Refresh(t.Context(), secret.New("r"))
		if err == nil {
			if token.Access.IsZero() || token.ExpiresIn <= 0 || token.ExpiresIn > 11*365*24*time.Hour || strings.ContainsAny(token.Access.Reveal()+token.Refresh.Reveal(), " \r\n\x00") {
				t.Errorf("an unusable token with a life of %v", token.ExpiresIn)
			}
			return
		}
		refusal, is := errors.AsType[*hubspot.Error](err)
		if !is {
			t.Fatalf("%T is not a *hubspot.Error", err)
		}
		if len(refusal.Code) > 40 || strings.Trim(refusal.Code, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" {
			t.Errorf("%q is not a code", refusal.Code)
		}
		bare := *refusal
		bare.Code = ""
		text := bare.Error()
		for _, problem := range known {
			text = strings.Replace(text, problem, "", 1)
		}
		if refusal.Unwrap() == nil && strings.Trim(text, "0123456789-() ") != "HubSpot's token endpoint: HTTP" && strings.Trim(text, "0123456789-() ") != "HubSpot's token endpoint:" {
			t.Errorf("the text is %q", err)
		}
	})
}
