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
		r          store.Record
		named, any error // for a request that names the portal, or none
	}{
		"nothing":                     {store.Record{}, nil, nil},
		"OAuth, earlier":              {store.Record{Kind: OAuth, State: Active, SetAt: ago, Generation: ahead.UnixMicro()}, nil, nil},
		"OAuth, ended":                {store.Record{Kind: OAuth, State: Ended, SetAt: ago}, nil, nil},
		"OAuth, later":                {store.Record{Kind: OAuth, State: Active, SetAt: ahead}, ErrChangedSince, ErrChangedSince},
		"OAuth, not known when":       {store.Record{Kind: OAuth, State: Active, Generation: ahead.UnixMicro()}, nil, nil},
		"token, earlier":              {store.Record{Kind: AccessToken, State: Active, SetAt: ago}, nil, ErrNotNamed},
		"key, earlier":                {store.Record{Kind: APIKey, State: Active, SetAt: ago}, nil, ErrNotNamed},
		"token, later":                {store.Record{Kind: AccessToken, State: Active, SetAt: ahead}, ErrChangedSince, ErrChangedSince},
		"token, by its generation":    {store.Record{Kind: AccessToken, State: Active, Generation: ahead.UnixMicro()}, ErrChangedSince, ErrChangedSince},
		"removed earlier":             {store.Record{State: Removed, SetAt: ago}, nil, nil},
		"removed later":               {store.Record{State: Removed, SetAt: ahead}, ErrChangedSince, ErrChangedSince},
		"removed, by its generation":  {store.Record{State: Removed, Generation: ahead.UnixMicro()}, ErrChangedSince, ErrChangedSince},
		"a token that does not open":  {store.Record{Kind: AccessToken, SetAt: ago}, nil, ErrNotNamed},
		"a grant that does not open":  {store.Record{Kind: OAuth, SetAt: ahead}, ErrChangedSince, ErrChangedSince},
		"a record that tells nothing": {store.Record{}, nil, nil},
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
