package main

import (
	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
)

// fileReserve is how many open files are reserved for Redis, the admin listener, calls of
// the token endpoint and files.
const fileReserve = 100

// limits are how many connections of clients, and how many requests, there may be at once. 0
// means no limit.
type limits struct{ connections, requests int }

// limitsOf returns the limits of the settings. The default follows from files, the limit of
// open files, which is 0 if it is not known: each request needs two, a connection of the
// client and one to HubSpot.
func limitsOf(settings config.Config, files int) limits {
	var l limits
	if files > 0 {
		l.connections = max((files-fileReserve)/2, 1)
		l.requests = l.connections
	}
	if settings.MaxConnections != nil {
		l.connections = *settings.MaxConnections
	}
	if settings.MaxRequests != nil {
		l.requests = *settings.MaxRequests
	}
	return l
}

// warn logs if the limit of open files is too low for the limits.
func (l limits) warn(log *zap.Logger, files int) {
	if files > 0 && (l.connections > files || l.requests > files || l.connections+l.requests+fileReserve > max(files, fileReserve+2)) {
		log.Warn("the limit of open files is too low for MAX_CONNECTIONS and MAX_REQUESTS: under load, connections fail, including those to Redis and of health checks; raise the limit of open files (ulimit -n), or lower these settings",
			zap.Int("open_files", files), zap.Int("max_connections", l.connections), zap.Int("max_requests", l.requests))
	}
}
