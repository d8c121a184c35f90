package wire

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Carries reports whether text contains value as it is, percent-encoded once or
// twice, or with JSON's escapes. No text contains the empty value.
func Carries(text, value string) bool {
	if value == "" {
		return false
	}
	once := Decode(text)
	return strings.Contains(text, value) || once != text && (strings.Contains(once, value) || strings.Contains(Decode(once), value)) ||
		strings.Contains(text, `\`) && strings.Contains(decodeJSON(text), value)
}

// KeyPrefix begins every client key, so that secret scanners and people recognize
// client keys.
const KeyPrefix = "hap_"

// clientKey matches the client keys that the program makes. A shorter text does not
// match, because HubSpot's accounts have properties with names such as
// mishap_description_of_event.
var clientKey = regexp.MustCompile(KeyPrefix + `[A-Za-z0-9_-]{43}`)

// CarriesClientKey reports whether text contains something that has the form of a
// client key: as it is, or percent-encoded once or twice.
func CarriesClientKey(text string) bool {
	if strings.Contains(text, "%") {
		once := Decode(text)
		return CarriesClientKey(strings.ReplaceAll(once, "%", " ")) || strings.Contains(once, "%") && CarriesClientKey(strings.ReplaceAll(Decode(once), "%", " "))
	}
	return strings.Contains(text, KeyPrefix) && clientKey.MatchString(text)
}

var jsonEscape = regexp.MustCompile(`\\u[0-9A-Fa-f]{4}|\\.`)

// decodeJSON undoes JSON's string escapes anywhere in the text, inside quotes or not.
func decodeJSON(text string) string {
	return jsonEscape.ReplaceAllStringFunc(text, func(escape string) string {
		if len(escape) == len(`\u0000`) {
			code, _ := strconv.ParseUint(escape[2:], 16, 16)
			return string(utf8.AppendRune(nil, rune(code)))
		}
		return escape[1:]
	})
}
