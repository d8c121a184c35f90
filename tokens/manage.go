package tokens

// RedisAnswers reports whether Redis answered as it should when it was last
// asked.
func (s *Source) RedisAnswers() bool { return !s.away.Load() }
