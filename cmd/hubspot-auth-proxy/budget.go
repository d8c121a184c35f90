package main

import (
	"context"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/budget"
	records "hubspot-auth-proxy/tokens/store"
)

// openBudget opens what counts calls, and gives them their turns.
func (s *service) openBudget() {
	s.budget = budget.New(budget.Options{Redis: s.redis, Prefix: s.settings.RedisPrefix, Metrics: s.metrics, Log: s.log})
	s.closers = append(s.closers, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*records.Timeout)
		defer cancel()
		if err := s.budget.Close(ctx); err != nil {
			s.log.Error("calls that were counted in the last seconds are missing in the usage", zap.Error(err))
		}
	})
}
