package tokens

import (
	"errors"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/store"
)

func TestARequestToConnectReplacesOnlyWhatItMay(t *testing.T) {
	t.Parallel()
	noon := time.UnixMilli(1_795_000_000_000)
	ago, ahead := noon.Add(-time.Microsecond), noon.Add(time.Microsecond)
	for name, tt := range map[string]struct {
		r          store.Record
		named, any error // the error for a request that names the portal, and for one that names none
		unasked    error
	}{
		"nothing":                    {store.Record{}, nil, nil, ErrConnected},
		"OAuth, earlier":             {store.Record{Kind: OAuth, State: Active, SetAt: ago, Generation: ahead.UnixMicro()}, nil, nil, ErrConnected},
		"OAuth, ended":               {store.Record{Kind: OAuth, State: Ended, SetAt: ago}, nil, nil, nil},
		"OAuth, later":               {store.Record{Kind: OAuth, State: Active, SetAt: ahead}, ErrChangedSince, ErrChangedSince, ErrConnected},
		"OAuth, not known when":      {store.Record{Kind: OAuth, State: Active, Generation: ahead.UnixMicro()}, nil, nil, ErrConnected},
		"token, earlier":             {store.Record{Kind: AccessToken, State: Active, SetAt: ago}, nil, ErrNotNamed, ErrNotNamed},
		"key, earlier":               {store.Record{Kind: APIKey, State: Active, SetAt: ago}, nil, ErrNotNamed, ErrNotNamed},
		"token, later":               {store.Record{Kind: AccessToken, State: Active, SetAt: ahead}, ErrChangedSince, ErrChangedSince, ErrNotNamed},
		"token, by its generation":   {store.Record{Kind: AccessToken, State: Active, Generation: ahead.UnixMicro()}, ErrChangedSince, ErrChangedSince, ErrNotNamed},
		"removed earlier":            {store.Record{State: Removed, SetAt: ago}, nil, nil, ErrWasRemoved},
		"removed later":              {store.Record{State: Removed, SetAt: ahead}, ErrChangedSince, ErrChangedSince, ErrWasRemoved},
		"removed, by its generation": {store.Record{State: Removed, Generation: ahead.UnixMicro()}, ErrChangedSince, ErrChangedSince, ErrWasRemoved},
		"a token that does not open": {store.Record{Kind: AccessToken, SetAt: ago}, nil, ErrNotNamed, ErrNotNamed},
		"a grant that does not open": {store.Record{Kind: OAuth, SetAt: ahead}, ErrChangedSince, ErrChangedSince, ErrConnected},
		"a record without details":   {store.Record{}, nil, nil, ErrConnected},
	} {
		if err := (ConnectRequest{Issued: noon}).mayReplace(&tt.r); !errors.Is(err, tt.named) {
			t.Errorf("%s: %v, want %v", name, err, tt.named)
		}
		if err := (ConnectRequest{Issued: noon, AnyPortal: true}).mayReplace(&tt.r); !errors.Is(err, tt.any) {
			t.Errorf("%s, any portal: %v, want %v", name, err, tt.any)
		}
		if err := (ConnectRequest{Unasked: true}).mayReplace(&tt.r); !errors.Is(err, tt.unasked) {
			t.Errorf("%s, not asked for: %v, want %v", name, err, tt.unasked)
		}
	}
}

func TestANewPortalMayBeConnectedByEachRequest(t *testing.T) {
	t.Parallel()
	for _, request := range []ConnectRequest{{}, {AnyPortal: true}, {Unasked: true}} {
		if err := request.mayReplace(nil); err != nil {
			t.Errorf("%+v: %v", request, err)
		}
	}
}

func TestAnEpochHasItsTime(t *testing.T) {
	t.Parallel()
	for epoch, want := range map[string]time.Time{
		"1795000000000000-ABC": time.UnixMilli(1_795_000_000_000), "MFRGGZDFMZTWQ2LK": {}, "": {}, "-": {},
	} {
		if got := (store.Epoch{ID: epoch}).Began(); !got.Equal(want) {
			t.Errorf("%q began at %v", epoch, got)
		}
	}
}
