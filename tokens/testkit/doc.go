// Package testkit has helpers for the tests of several packages. They run the program as a
// process, read its output, wait for a condition, and skip a test if another program is not
// installed. Package redistest has a real Redis, and package hubspottest a fake HubSpot.
package testkit
