// Command cmd serves the plain proxy in a process of its own, for benchmarks:
//
//	cmd UPSTREAM_URL
//
// The command listens on a free port of the loopback address, prints that address, and
// serves until it is killed.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"

	"hubspot-auth-proxy/proxy/plain"
)

func main() {
	upstream, err := url.Parse(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	log.Fatal(http.Serve(listener, plain.New(upstream)))
}
