package config

import (
	"cmp"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// Print writes a table of all settings to w, in the order of Config. A line has the
// variable, its value, and the source of the value: "environment", "file PATH", "default",
// or "unset" if there is no value. The value of a secret is [redacted]. derived has, by
// variable, the defaults that depend on the machine or on other settings.
func (c Config) Print(w io.Writer, derived map[string]string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tVALUE\tSOURCE") // Flush returns its error
	config := reflect.ValueOf(c)
	for _, s := range settings() {
		value := cmp.Or(show(config.Field(s.index)), derived[s.name])
		source := c.sources[s.name]
		switch {
		case source != "":
		case value == "":
			source = "unset"
		default:
			source = "default"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", s.name, oneCell(value), oneCell(source))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print settings: %w", err)
	}
	return nil
}

// show returns the value of a field in the form of an environment variable, or "" if the
// field is unset.
func show(field reflect.Value) string {
	if field.Kind() == reflect.Pointer && field.IsNil() {
		return ""
	}
	switch value := field.Interface().(type) {
	case *bool:
		return strconv.FormatBool(*value)
	case *int:
		return strconv.Itoa(*value)
	case *url.URL:
		return value.Redacted()
	case []string:
		return strings.Join(value, ",")
	default:
		return fmt.Sprint(value) // a secret prints [redacted]
	}
}

// oneCell quotes text that would break a line or a column of the table.
func oneCell(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
