// Package faults has tests only. They build the program, run two processes of it with a
// real redis-server, and break the parts around the processes: Redis, HubSpot, clients
// and the processes themselves. The table in README.md says what clients and HubSpot
// see of each fault.
//
//	go test ./proxy/faults
//
// compares the table with what the tests saw. With -update, it writes the table.
package faults
