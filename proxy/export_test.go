package proxy

import "time"

// SetTokenBodyTime replaces [tokenBodyTime] before the proxy's first request.
func (p *Proxy) SetTokenBodyTime(d time.Duration) { p.oauth.tokenCalls.bodyTime = d }

// SetLingerTime replaces [lingerTime] before the proxy's first request.
func (p *Proxy) SetLingerTime(d time.Duration) { p.lingerTime = d }
