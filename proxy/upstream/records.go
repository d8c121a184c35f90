package upstream

// records tracks the boundaries of TLS records (RFC 8446 section 5.1) in received
// bytes. crypto/tls does not report that it holds part of a record, and such a part may
// be the start of bytes that no request asked for.
type records struct {
	header  [5]byte // header of the current record
	got     int     // bytes of the header received so far
	pending int     // bytes of the record's content still to come
}

// follow processes received bytes.
func (r *records) follow(p []byte) {
	for len(p) > 0 {
		if r.got < len(r.header) {
			n := copy(r.header[r.got:], p)
			r.got += n
			p = p[n:]
			if r.got < len(r.header) {
				return
			}
			r.pending = int(r.header[3])<<8 | int(r.header[4])
		}
		n := min(r.pending, len(p))
		r.pending -= n
		p = p[n:]
		if r.pending == 0 {
			r.got = 0
		}
	}
}

// whole reports whether the bytes so far end at the end of a record.
func (r *records) whole() bool { return r.got == 0 }
