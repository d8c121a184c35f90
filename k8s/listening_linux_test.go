package k8s_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// listening returns the addresses on which the process accepts TCP connections, from
// proc_net_tcp(5).
func listening(t *testing.T, pid int) []string {
	t.Helper()
	sockets := socketsOf(t, pid)
	var found []string
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			const local, state, inode, listen = 1, 3, 9, "0A"
			if fields := strings.Fields(line); fields[state] == listen && slices.Contains(sockets, "socket:["+fields[inode]+"]") {
				found = append(found, address(t, fields[local]))
			}
		}
	}
	slices.Sort(found)
	return found
}

func socketsOf(t *testing.T, pid int) []string {
	t.Helper()
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("only root sees the sockets of a program that hides its memory")
	}
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		if target, err := os.Readlink(filepath.Join(folder, file.Name())); err == nil {
			found = append(found, target)
		}
	}
	return found
}

// address parses an address such as 0100007F:1F90: words of 32 bits, each with its last
// byte first, and the port.
func address(t *testing.T, text string) string {
	t.Helper()
	ip, port, _ := strings.Cut(text, ":")
	bytes, err := hex.DecodeString(ip)
	if err != nil {
		t.Fatal(err)
	}
	for word := range slices.Chunk(bytes, 4) {
		slices.Reverse(word)
	}
	addr, _ := netip.AddrFromSlice(bytes)
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(addr, uint16(n)).String()
}
