package main

import (
	"context"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/budget"
	records "hubspot-auth-proxy/tokens/store"
)

// openBudget opens the budget. The budget counts calls, and lets each call wait for its
// turn within HubSpot's rate limits.
func (s *service) openBudget() {
	s.budget = budget.New(budget.Options{Redis: s.redis, Prefix: s.settings.RedisPrefix, Metrics: s.metrics, Log: s.log})
	s.closers = append(s.closers, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*records.Timeout)
		defer cancel()
		if err := s.budget.Close(ctx); err != nil {
			s.log.Error("the calls of the last seconds could not be stored, and are missing from the usage", zap.Error(err))
		}
	})
}
