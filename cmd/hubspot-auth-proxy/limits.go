package main

import (
	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
)

// fileReserve is how many open files are reserved for Redis, the admin listener, calls of
// the token endpoint and files.
const fileReserve = 100

// limits has the highest number of client connections, and of requests, at one time. 0
// means no limit.
type limits struct{ connections, requests int }

// limitsOf returns the limits of the settings. files is the limit of open files; 0 means
// that the limit is not known. The defaults are half of files, without fileReserve, because
// each request needs two open files: the client's connection and a connection to HubSpot.
// If files is 0, the default is no limit.
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
