package secret_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"hubspot-auth-proxy/tokens/secret"
)

const canary = "canary-5ecre7"

func TestNoPrintingShowsASecret(t *testing.T) {
	s := secret.New(canary)
	exported := struct{ Token secret.Text }{s}
	unexported := struct{ token secret.Text }{s}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%T"} {
		for _, value := range []any{s, &s, exported, &exported, unexported, &unexported, []secret.Text{s}, map[string]secret.Text{"k": s}} {
			out := fmt.Sprintf(verb, value)
			if strings.Contains(out, canary) || strings.Contains(out, fmt.Sprintf("%x", canary)) || strings.Contains(out, fmt.Sprintf("%X", canary)) {
				t.Errorf("%s of %T prints the secret: %s", verb, value, out)
			}
		}
	}
	if got := fmt.Sprint(s); got != "[redacted]" {
		t.Errorf("Sprint = %q, want [redacted]", got)
	}
}

func TestNoEncodingShowsASecret(t *testing.T) {
	s := secret.New(canary)
	out, err := json.Marshal(map[string]any{"a": s, "b": &s, "c": struct{ T secret.Text }{s}})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), canary) {
		t.Errorf("JSON shows the secret: %s", out)
	}
	core, logs := observer.New(zapcore.DebugLevel)
	zap.New(core).Info("x", zap.Any("a", s), zap.Stringer("b", s), zap.Reflect("c", struct{ T secret.Text }{s}))
	for _, entry := range logs.All() {
		line, err := zapcore.NewJSONEncoder(zapcore.EncoderConfig{}).EncodeEntry(entry.Entry, entry.Context)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line.String(), canary) {
			t.Errorf("the log shows the secret: %s", line)
		}
	}
}

func TestEqualComparesTheSecretsThemselves(t *testing.T) {
	if !secret.New(canary).Equal(secret.New("canary-" + "5ecre7")) {
		t.Error("the same secret is not equal to itself")
	}
	if secret.New(canary).Equal(secret.New("other")) || secret.New(canary).Equal(secret.Text{}) {
		t.Error("different secrets are equal")
	}
	if !(secret.Text{}).IsZero() || !secret.New("").IsZero() || secret.New(canary).IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestUnmarshalTextSetsTheSecret(t *testing.T) {
	var s secret.Text
	if err := s.UnmarshalText([]byte(canary)); err != nil || s.Reveal() != canary {
		t.Errorf("got %q, %v", s.Reveal(), err)
	}
}
