package hubspottest

import "net/http"

// Observe makes the server call see for every API request and every call of the token
// endpoint that arrives from now on, before the server answers it. Requests that are
// answered 401 are reported too, with the portal of their credential. The [Echo] has
// nothing about the body and the trailers. The server may call see from several goroutines
// at once. If see is nil, the reports end.
func (s *Server) Observe(see func(Echo)) { s.observer.Store(&see) }

func (s *Server) observe(r *http.Request, v verdict) {
	if see := s.observer.Load(); see != nil && *see != nil {
		e := echo(r, v, receivedBody{})
		e.Trailer = nil // filled while the body is read
		(*see)(e)
	}
}
