package upstream

// records follows the records of TLS (RFC 8446 section 5.1). What crypto/tls has
// of one that has not come whole it does not tell, and it may be what the server
// was not asked for.
type records struct {
	header [5]byte // of the record that is coming
	got    int     // of that
	left   int     // bytes of the record after its header
}

// pass takes note of bytes.
func (r *records) pass(p []byte) {
	for len(p) > 0 {
		if r.got < len(r.header) {
			n := copy(r.header[r.got:], p)
			r.got += n
			p = p[n:]
			if r.got < len(r.header) {
				return
			}
			r.left = int(r.header[3])<<8 | int(r.header[4])
		}
		n := min(r.left, len(p))
		r.left -= n
		p = p[n:]
		if r.left == 0 {
			r.got = 0
		}
	}
}

// whole reports whether no record has come in part.
func (r *records) whole() bool { return r.got == 0 }
