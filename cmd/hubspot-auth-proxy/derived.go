package main

import (
	"net"
	"strconv"

	"hubspot-auth-proxy/config"
)

// derivedDefaults returns, by variable, the defaults that depend on this machine or on other
// settings. A default that serve can only find when it listens is left out.
func derivedDefaults(settings config.Config) map[string]string {
	limits := limitsOf(settings, openFiles())
	defaults := map[string]string{"LOG_FORMAT": "json, or console on a terminal", "MAX_CONNECTIONS": limitText(limits.connections), "MAX_REQUESTS": limitText(limits.requests)}
	address, err := net.ResolveTCPAddr("tcp", settings.ListenAddr)
	if err != nil {
		return defaults // serve reports the error
	}
	loopback := address.IP.IsLoopback()
	defaults["ALLOW_ANONYMOUS"] = strconv.FormatBool(loopback)
	if loopback {
		defaults["PORTAL_DOMAIN"] = "localhost"
	}
	return defaults
}

// limitText returns a limit as text. 0 means no limit.
func limitText(limit int) string {
	if limit == 0 {
		return "no limit"
	}
	return strconv.Itoa(limit)
}
