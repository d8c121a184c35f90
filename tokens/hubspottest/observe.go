package hubspottest

import "net/http"

// Observe calls see with the head of every API request and every call of the
// token endpoint that arrives from now on, before it is answered: also of
// those that are answered 401, with whose credential came. What an [Echo]
// tells of body and trailers is missing. See is called by many goroutines at
// once. Nil ends that.
func (s *Server) Observe(see func(Echo)) { s.observer.Store(&see) }

func (s *Server) observe(r *http.Request, v verdict) {
	if see := s.observer.Load(); see != nil && *see != nil {
		e := echo(r, v, receivedBody{})
		e.Trailer = nil // filled while the body is read
		(*see)(e)
	}
}
