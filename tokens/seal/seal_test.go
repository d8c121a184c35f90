package seal_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
)

const canary = "canary-refresh-token"

func ring(t *testing.T, lists ...secret.Text) seal.Ring {
	t.Helper()
	var all []string
	for _, list := range lists {
		all = append(all, list.Reveal())
	}
	r, err := seal.Parse(secret.New(strings.Join(all, ",")))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newKey(t *testing.T, id string) secret.Text {
	t.Helper()
	k, err := seal.Generate(id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestASealedValueOpensInItsPlaceOnly(t *testing.T) {
	r := ring(t, newKey(t, "a"))
	stored := r.Seal("1", "refresh_token", secret.New(canary))
	if strings.Contains(stored, canary) {
		t.Fatalf("the value is stored without sealing: %s", stored)
	}
	if value, err := r.Open("1", "refresh_token", stored); err != nil || value.Reveal() != canary {
		t.Errorf("in its place: %v, %v", value, err)
	}
	if again := r.Seal("1", "refresh_token", secret.New(canary)); again == stored {
		t.Error("sealing a value twice gives the same text: the nonce is not random")
	}
	for _, place := range [][2]string{{"2", "refresh_token"}, {"1", "access_token"}, {"1\x00refresh", "_token"}} {
		_, err := r.Open(place[0], place[1], stored)
		if failure, is := errors.AsType[*seal.OpenError](err); !is || failure.Portal != place[0] || failure.Key != "a" {
			t.Errorf("moved to %q: %v", place, err)
		}
	}
}

func TestTheFirstKeySealsAndAllOpen(t *testing.T) {
	old, young := newKey(t, "old"), newKey(t, "young")
	stored := ring(t, old).Seal("1", "f", secret.New(canary))
	both := ring(t, young, old)
	if value, err := both.Open("1", "f", stored); err != nil || value.Reveal() != canary {
		t.Errorf("the second key does not open: %v", err)
	}
	if both.Sealed(stored) || !both.Sealed(both.Seal("1", "f", secret.New(canary))) {
		t.Error("Sealed does not distinguish the first key from others")
	}
	if both.Current() != "young" {
		t.Errorf("Current = %q", both.Current())
	}
	if _, err := ring(t, young).Open("1", "f", stored); err == nil || !strings.Contains(err.Error(), `"old"`) {
		t.Errorf("a key that is gone: %v", err)
	}
	if _, err := ring(t, newKey(t, "old")).Open("1", "f", stored); err == nil {
		t.Error("another key of the same id opens")
	}
}

func TestAnUnsealedValueIsOpenedOnlyWithPlain(t *testing.T) {
	key := newKey(t, "a")
	if _, err := ring(t, key).Open("1", "f", canary); err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "plain") {
		t.Errorf("without plain: %v", err)
	}
	if value, err := ring(t, key).Open("1", "f", ""); err != nil || !value.IsZero() {
		t.Errorf("an empty value: %v, %v", value, err)
	}
	first := ring(t, secret.New("plain"), key)
	if got := first.Seal("1", "f", secret.New(canary)); got != canary || first.Seals() || first.Current() != "" || first.Sealed(canary) {
		t.Errorf("with plain first, the value is stored as %q", got)
	}
	if value, err := first.Open("1", "f", ring(t, key).Seal("1", "f", secret.New(canary))); err != nil || value.Reveal() != canary {
		t.Errorf("with plain first, a sealed value: %v", err)
	}
	if _, err := first.Open("1", "f", "sealed:plain:"+canary); err == nil {
		t.Error("plain opens a sealed value")
	}
}

// A process that gets new keys while it runs can open their values, and seals as before.
func TestKeysThatAreAddedLaterOpenAndDoNotSeal(t *testing.T) {
	a, b, plain := newKey(t, "a"), newKey(t, "b"), secret.New("plain")
	byB := ring(t, b).Seal("1", "f", secret.New(canary))
	for name, tt := range map[string]struct {
		start, later seal.Ring
		seals        string
	}{
		"a first key":         {seal.Ring{}, ring(t, b), ""},
		"after plain":         {ring(t, plain), ring(t, plain, b), ""},
		"another first key":   {ring(t, a), ring(t, b, a), "a"},
		"the former one gone": {ring(t, a), ring(t, b), "a"},
	} {
		r := tt.start.Opening(tt.later)
		if value, err := r.Open("1", "f", byB); err != nil || value.Reveal() != canary || r.Current() != tt.seals {
			t.Errorf("%s: %v, %q seals", name, err, r.Current())
		}
		if value, err := r.Open("1", "f", r.Seal("1", "f", secret.New(canary))); err != nil || value.Reveal() != canary {
			t.Errorf("%s: the ring does not open a value that it has sealed: %v", name, err)
		}
	}
	if r := ring(t, a, plain).Opening(ring(t, a)); r.Sealed("x") {
		t.Error("plain stays although it was removed")
	} else if _, err := r.Open("1", "f", canary); err == nil {
		t.Error("an unsealed value is opened although plain was removed")
	}
}

func TestAValueThatWasStoredWithoutKeysIsOpened(t *testing.T) {
	r := ring(t, newKey(t, "a"), secret.New("plain"))
	if value, err := r.Open("1", "f", canary); err != nil || value.Reveal() != canary || r.Sealed(canary) {
		t.Errorf("%v, %v", value, err)
	}
	var none seal.Ring
	if got := none.Seal("1", "f", secret.New(canary)); got != canary {
		t.Errorf("without keys, the value is stored as %q", got)
	}
	if got := r.Seal("1", "f", secret.Text{}); got != "" {
		t.Errorf("the empty value is stored as %q", got)
	}
}

func TestErrorsAboutKeysContainNoKey(t *testing.T) {
	good := newKey(t, "a").Reveal()
	for _, list := range []string{canary, "a:" + canary, "a:" + good, good + "," + good, "bad id:" + good[2:], good + ",", ":" + good[2:], "plain,plain", "plain:" + good[2:], "plain," + canary} {
		_, err := seal.Parse(secret.New(list))
		if err == nil {
			t.Errorf("%q is accepted", list)
			continue
		}
		if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), good[2:]) {
			t.Errorf("the error shows a key: %v", err)
		}
	}
	if _, err := seal.Generate("a b"); err == nil {
		t.Error("a key with a blank in its id")
	}
	if out := fmt.Sprintf("%+v %#v", ring(t, secret.New(good)), ring(t, secret.New(good))); strings.Contains(out, good[2:]) {
		t.Errorf("a ring prints its keys: %s", out)
	}
}

func FuzzOpen(f *testing.F) {
	key, err := seal.Generate("a")
	if err != nil {
		f.Fatal(err)
	}
	r, err := seal.Parse(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("sealed:a:")
	f.Add("sealed::")
	f.Add("sealed:b:AAAA")
	f.Add(r.Seal("1", "f", secret.New(canary)))
	f.Fuzz(func(t *testing.T, stored string) {
		// Only a value that was sealed with the ring's key opens.
		value, err := r.Open("2", "f", stored)
		if strings.HasPrefix(stored, "sealed:") && err == nil {
			t.Errorf("%q opens as %q", stored, value.Reveal())
		}
		if !strings.HasPrefix(stored, "sealed:") && (err == nil) != (stored == "") {
			t.Errorf("%q is read as %q, %v", stored, value.Reveal(), err)
		}
	})
}

func TestIDsNameTheSealingKeyFirst(t *testing.T) {
	a, b := newKey(t, "a"), newKey(t, "b")
	for want, keys := range map[string][]secret.Text{"plain": nil, "b a": {b, a}, "plain a": {secret.New("plain"), a}} {
		if got := strings.Join(ring(t, keys...).IDs(), " "); got != want {
			t.Errorf("IDs = %q, want %q", got, want)
		}
	}
}
