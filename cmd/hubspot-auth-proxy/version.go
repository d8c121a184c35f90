package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// version is set by the linker: -ldflags "-X main.version=1.2.3". Empty: what
// go build has noted is used.
var version string

func printVersion(stdout io.Writer) error {
	v := version
	if info, ok := debug.ReadBuildInfo(); v == "" && ok {
		v = info.Main.Version
	}
	if v == "" {
		v = "(devel)"
	}
	_, err := fmt.Fprintf(stdout, "hubspot-auth-proxy %s %s %s/%s\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
