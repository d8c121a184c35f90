package store

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/secret"
)

// An Error means that Redis did not answer, or answered with an error. It never means that
// something is not stored.
//
// The text of an Error contains nothing that the server has sent, except an error code from
// a fixed list. Servers quote the arguments of commands in their errors, and arguments may be
// passwords or credentials.
type Error struct {
	// Op is the operation that failed, such as "read from Redis".
	Op string

	// Code is the first word of Redis' error, such as NOPERM. Empty means that Redis
	// did not answer with an error.
	Code string

	// Command is the command that the Redis user may not use. Empty unless the code
	// is NOPERM and Redis names the command.
	Command string

	// phrase is the text of Redis' error if it is one of phrases.
	phrase string

	err error
}

// codes are the error codes that may be logged.
var codes = []string{
	"ASK", "BUSY", "CLUSTERDOWN", "CROSSSLOT", "DENIED", "ERR", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF", "MOVED",
	"NOAUTH", "NOPERM", "NOPROTO", "NOREPLICAS", "NOSCRIPT", "OOM", "READONLY", "TRYAGAIN", "UNBLOCKED", "WRONGPASS", "WRONGTYPE",
}

// phrases are the texts of ERR errors that may be logged, because they help the operator.
var phrases = []string{
	"unknown command", "max number of clients reached", "DB index is out of range",
	"invalid password", "Client sent AUTH, but no password is set",
}

// Failure returns an [*Error] for an error of go-redis. It returns nil for nil, and an error
// that already wraps an [*Error] unchanged. op is the operation that failed.
func Failure(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, known := errors.AsType[*Error](err); known {
		return err
	}
	e := &Error{Op: op, err: err}
	if reply, is := errors.AsType[redis.Error](err); is && !errors.Is(err, redis.Nil) {
		e.Code = codeOf(reply.Error())
		if e.Code == "NOPERM" {
			e.Command = commandOf(reply.Error())
		}
		for _, phrase := range phrases {
			if strings.HasPrefix(reply.Error(), "ERR "+phrase) {
				e.phrase = phrase
			}
		}
	}
	return e
}

// codeOf returns the code of Redis' error, or ERR if the code is not one of codes.
func codeOf(text string) string {
	code, _, _ := strings.Cut(strings.TrimPrefix(text, "ERR "), " ")
	if slices.Contains(codes, code) {
		return code
	}
	return "ERR"
}

// connectionCommands are the commands that go-redis sends on a new connection. Redis may
// refuse them.
var connectionCommands = []string{"auth", "client", "client|setinfo", "cluster", "hello"}

var quoted = regexp.MustCompile(`'([a-z|]+)' command`)

// commandOf returns the command that a NOPERM error names, or "" if it names none that the
// program sends.
func commandOf(text string) string {
	match := quoted.FindStringSubmatch(text)
	if match == nil || !slices.Contains(slices.Concat(commands(), clusterCommands, connectionCommands), match[1]) {
		return ""
	}
	return match[1]
}

// Error returns the operation and Redis' error code or the cause, without secrets.
func (e *Error) Error() string {
	switch {
	case e.Command != "":
		return e.Op + ": " + e.Code + ": the Redis user may not use " + strings.ToUpper(e.Command)
	case e.Code == "NOPERM":
		return e.Op + ": NOPERM: the Redis user has no right to this key or channel"
	case e.Code == "MOVED":
		return e.Op + ": Redis answers MOVED: this is a Redis Cluster, so add addr= with another of its hosts to REDIS_URL, as in redis://one:6379?addr=two:6379"
	case e.Code == "MISCONF":
		return e.Op + ": Redis answers MISCONF: it cannot write to its disk, and refuses changes until it can"
	case e.phrase != "":
		return e.Op + ": Redis answers: " + e.phrase
	case e.Code == "ERR":
		return e.Op + ": Redis answers with an error"
	case e.Code != "":
		return e.Op + ": Redis answers " + e.Code
	case errors.Is(e.err, redis.Nil):
		return e.Op + ": Redis answers with nothing"
	default:
		return e.Op + ": " + secret.Cause(e.err).Error()
	}
}

// Unwrap returns the error of go-redis, for errors.Is. Do not print it, because its text may
// contain a secret.
func (e *Error) Unwrap() error { return e.err }

// notServing are the codes with which a server refuses all commands, of all users or of this
// one. The program treats such a server as one that does not answer.
var notServing = []string{"LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS"}

// Answered reports whether Redis answered with an error that concerns the command only. It
// returns false if Redis did not answer or refuses all commands.
func (e *Error) Answered() bool { return e.Code != "" && !slices.Contains(notServing, e.Code) }

// OfRecord reports whether the portal's key holds something other than a record. Such an error
// concerns one portal only.
func (e *Error) OfRecord() bool { return e.Code == "WRONGTYPE" }

// refusesWrites are the codes of a server that refuses all writes for the time being: a
// replica, as in a failover; one that cannot write to its disk; one without its replicas; one
// without memory.
var refusesWrites = []string{"READONLY", "MISCONF", "NOREPLICAS", "OOM"}

// RefusesWrites reports whether the server refused a write for a reason that concerns all
// writes, and may end.
func RefusesWrites(err error) bool {
	failure, is := errors.AsType[*Error](err)
	return is && slices.Contains(refusesWrites, failure.Code)
}

// ErrShape means that Redis' answer does not have the form that the program expects.
const ErrShape = secret.Fault("the answer does not have the expected form")
