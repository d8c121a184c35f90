package main

import (
	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
)

// fileReserve is how many open files are left for Redis, the admin listener,
// calls of the token endpoint and files.
const fileReserve = 100

// limits are how many connections of clients, and requests, there may be at once;
// 0 means no limit.
type limits struct{ connections, requests int }

// limitsOf returns what the settings say, and otherwise what fits the limit of open
// files, 0 if that is not known: each request takes a connection of a client and one
// to HubSpot.
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

// warn logs that the limit of open files may be reached all the same.
func (l limits) warn(log *zap.Logger, files int) {
	if files > 0 && (l.connections > files || l.requests > files || l.connections+l.requests+fileReserve > max(files, fileReserve+2)) {
		log.Warn("the limit of open files is lower than MAX_CONNECTIONS and MAX_REQUESTS need: under load, connections will fail, to Redis and to health checks too; raise it (ulimit -n), or lower them",
			zap.Int("open_files", files), zap.Int("max_connections", l.connections), zap.Int("max_requests", l.requests))
	}
}
