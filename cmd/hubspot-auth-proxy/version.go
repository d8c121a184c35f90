package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// version is set by the linker: -ldflags "-X main.version=1.2.3". Empty means the version in
// the build information of go build.
var version string

// versionText returns the version that the program reports.
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
