package tokens

import (
	"errors"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/store"
)

func TestWhatARequestToConnectMayReplace(t *testing.T) {
	t.Parallel()
	noon := time.UnixMilli(1_795_000_000_000)
	ago, ahead := noon.Add(-time.Microsecond), noon.Add(time.Microsecond)
	for name, tt := range map[string]struct {
		r          record
		named, any error // for a request that names the portal, or none
	}{
		"nothing":                     {record{}, nil, nil},
		"OAuth, earlier":              {record{kind: OAuth, state: active, setAt: ago, generation: ahead.UnixMicro()}, nil, nil},
		"OAuth, ended":                {record{kind: OAuth, state: ended, setAt: ago}, nil, nil},
		"OAuth, later":                {record{kind: OAuth, state: active, setAt: ahead}, ErrChangedSince, ErrChangedSince},
		"OAuth, not known when":       {record{kind: OAuth, state: active, generation: ahead.UnixMicro()}, nil, nil},
		"token, earlier":              {record{kind: AccessToken, state: active, setAt: ago}, nil, ErrNotNamed},
		"key, earlier":                {record{kind: APIKey, state: active, setAt: ago}, nil, ErrNotNamed},
		"token, later":                {record{kind: AccessToken, state: active, setAt: ahead}, ErrChangedSince, ErrChangedSince},
		"token, by its generation":    {record{kind: AccessToken, state: active, generation: ahead.UnixMicro()}, ErrChangedSince, ErrChangedSince},
		"removed earlier":             {record{state: removed, setAt: ago}, nil, nil},
		"removed later":               {record{state: removed, setAt: ahead}, ErrChangedSince, ErrChangedSince},
		"removed, by its generation":  {record{state: removed, generation: ahead.UnixMicro()}, ErrChangedSince, ErrChangedSince},
		"a token that does not open":  {record{kind: AccessToken, setAt: ago}, nil, ErrNotNamed},
		"a grant that does not open":  {record{kind: OAuth, setAt: ahead}, ErrChangedSince, ErrChangedSince},
		"a record that tells nothing": {record{}, nil, nil},
	} {
		if err := (ConnectRequest{Issued: noon}).mayReplace(tt.r); !errors.Is(err, tt.named) {
			t.Errorf("%s: %v, want %v", name, err, tt.named)
		}
		if err := (ConnectRequest{Issued: noon, AnyPortal: true}).mayReplace(tt.r); !errors.Is(err, tt.any) {
			t.Errorf("%s, any portal: %v, want %v", name, err, tt.any)
		}
	}
}

func TestAnEpochTellsWhenItBegan(t *testing.T) {
	t.Parallel()
	for epoch, want := range map[string]time.Time{
		"1795000000000000-ABC": time.UnixMilli(1_795_000_000_000), "MFRGGZDFMZTWQ2LK": {}, "": {}, "-": {},
	} {
		if got := (store.Epoch{ID: epoch}).Began(); !got.Equal(want) {
			t.Errorf("%q began at %v", epoch, got)
		}
	}
}
