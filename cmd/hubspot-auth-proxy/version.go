package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// version is set by the linker: -ldflags "-X main.version=1.2.3". Empty: what
// go build has noted is used.
var version string

// versionText returns the version as the program tells it.
func versionText() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); v == "" && ok {
		v = info.Main.Version
	}
	return cmp.Or(v, "(devel)")
}

func printVersion(stdout io.Writer) error {
	_, err := fmt.Fprintf(stdout, "hubspot-auth-proxy %s %s %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
