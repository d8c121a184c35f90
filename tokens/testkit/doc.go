// Package testkit is what the tests of several packages need: the program as a
// process, what it prints, waiting for something to become true, and what to do
// where a program is not installed. A real Redis is in package redistest, a fake
// HubSpot in package hubspottest.
package testkit
