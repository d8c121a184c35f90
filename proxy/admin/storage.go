package admin

// Storage is where a process stores its portals.
type Storage int

const (
	Redis     Storage = iota // an external Redis
	StateFile                // the file of STATE_FILE
	Memory                   // memory only; what is stored is lost when the process ends
)

// redisState returns the state of Redis for /readyz.
func (a *Admin) redisState() string {
	switch {
	case !a.joined.Load():
		return "awaited"
	case !a.options.RedisAnswers():
		return "does not answer"
	case a.options.Storage == StateFile:
		return "not used: STATE_FILE is"
	case a.options.Storage == Memory:
		return "not used: everything is in memory"
	}
	return "answers"
}

// storageTag returns the state of the storage for the status page. answers is false if the
// portals could not be read.
func (a *Admin) storageTag(answers bool) tag {
	answers = answers && a.options.RedisAnswers()
	switch {
	case a.options.Storage == Redis && answers:
		return tag{"good", "Redis answers"}
	case a.options.Storage == Redis:
		return tag{"bad", "Redis does not answer"}
	case !answers:
		return tag{"bad", "The storage does not answer"}
	case a.options.Storage == StateFile:
		return tag{"good", "Stored in STATE_FILE"}
	}
	return tag{"idle", "In memory only"}
}
