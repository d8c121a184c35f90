package proxy

import "hubspot-auth-proxy/tokens"

const (
	portalHeader = "X-Hubspot-Portal-Id"
	debugHeader  = "X-Hubspot-Auth-Proxy-Debug"
)

// route finds the portal that the request is for: by path prefix, host name,
// header, the only one of the client's, or default. HubSpot's own OAuth endpoints
// need none.
func (p *Proxy) route(c *call) *refusal {
	var named []string
	prefix, rest, hasPrefix := c.target.portalPrefix()
	if hasPrefix {
		named = append(named, prefix)
	}
	if below := p.hosts.Below(c.request.Host); below != "" {
		named = append(named, below)
	}
	named = append(named, c.request.Header[portalHeader]...)
	for _, id := range named {
		switch {
		case !tokens.ValidPortal(id):
			return portalInvalid()
		case id != named[0]:
			return portalConflict()
		}
	}
	c.target = rest
	switch {
	case c.target.isOAuth():
		return nil
	case len(named) > 0:
		c.portal = named[0]
	case c.client != nil && c.client.OnlyPortal() != "":
		c.portal = c.client.OnlyPortal()
	case p.options.DefaultPortal != "":
		c.portal = p.options.DefaultPortal
	default:
		return portalRequired()
	}
	return nil
}

// refuseUnserved refuses portals that this process is not to serve.
func (p *Proxy) refuseUnserved(c *call) *refusal {
	if c.portal != "" && p.served != nil && !p.served[c.portal] {
		return portalNotServed(c.portal)
	}
	return nil
}
