// Command cmd serves the plain proxy for benchmarks, in a process of its own:
//
//	cmd UPSTREAM_URL
//
// prints the loopback address that it listens on.
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
