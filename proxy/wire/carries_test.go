package wire_test

import (
	"testing"

	"hubspot-auth-proxy/proxy/wire"
)

const aKey = "hap_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func TestAKeyIsFoundInEveryEncodingThatClientsUse(t *testing.T) {
	for text, want := range map[string]bool{
		aKey: true, "/a/" + aKey + "/b": true, "hap%5FAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA": true, "%68ap_" + aKey[4:]: true, "%2568ap_" + aKey[4:]: true,
		`{"tokenKey":"\u0068ap_` + aKey[4:] + `"}`: true, `{"a":"hap\u005f` + aKey[4:] + `"}`: true, `{"a":"hap\_` + aKey[4:] + `"}`: true, "token=" + aKey + "&a=b%zz": true,
		"": false, aKey[:46]: false, "hap_": false, "/crm/v3/objects/contacts": false, "%252568ap_" + aKey[4:]: false,
	} {
		if got := wire.Carries(text, aKey); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
	if wire.Carries("a", "") {
		t.Error("the empty value is found")
	}
	for text, want := range map[string]bool{
		"/a/" + aKey: true, "/%68ap_" + aKey[4:]: true, "/%2568ap%255f" + aKey[4:] + "?x": true, "/x" + aKey + "%": true,
		"/a": false, "/hap_short": false, "/hap_things/of-mine": false, "": false, "/%%%": false, "/hap%AAAAAAAAAAAAAAAAAAAAAAAAA": false,
		"properties=mishap_description_of_event,chap_total_number_of_chapters": false, "/crm/v3/properties/deals/hap_customer_lifetime_value_usd": false,
	} {
		if got := wire.CarriesClientKey(text); got != want {
			t.Errorf("%s has the form of a key: %t", text, got)
		}
	}
	if n := testing.AllocsPerRun(10, func() {
		wire.CarriesClientKey("/crm/v3/objects/contacts")
		wire.Carries("/crm/v3/objects/contacts", aKey)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
