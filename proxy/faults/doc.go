// Package faults is tests only: the program as it is built, two processes of it
// with a real redis-server, and each thing around them that can break, broken.
// What clients and HubSpot saw of it is the table in README.md, which
//
//	go test ./proxy/faults -update
//
// writes, and go test ./proxy/faults compares with what it saw.
package faults
