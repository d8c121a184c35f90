package store

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/secret"
)

// An Error says that Redis did not answer as it should. It says nothing about
// what is stored there, and never means that something is not there.
//
// Its text has nothing of what the server has sent, except for an error code
// from a fixed list: servers quote the arguments of commands in their errors,
// and a password or a credential is among them.
type Error struct {
	// Op is what was being done, such as "read from Redis".
	Op string

	// Code is the first word of Redis' error, such as NOPERM. Empty: Redis
	// has not answered with an error.
	Code string

	// Command is the command that the Redis user has no right to, if the code
	// is NOPERM, and if Redis names it.
	Command string

	// phrase is the text of Redis' error, if it is one of phrases.
	phrase string

	err error
}

// codes are the first words of errors that are logged.
var codes = []string{
	"ASK", "BUSY", "CLUSTERDOWN", "CROSSSLOT", "DENIED", "ERR", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF", "MOVED",
	"NOAUTH", "NOPERM", "NOPROTO", "NOREPLICAS", "NOSCRIPT", "OOM", "READONLY", "TRYAGAIN", "UNBLOCKED", "WRONGPASS", "WRONGTYPE",
}

// phrases are texts of errors with the code ERR that say what to do.
var phrases = []string{
	"unknown command", "max number of clients reached", "DB index is out of range",
	"invalid password", "Client sent AUTH, but no password is set",
}

// Failure makes an [Error] of an error of go-redis. Nil stays nil.
func Failure(op string, err error) error {
	if err == nil {
		return nil
	}
	if known := (*Error)(nil); errors.As(err, &known) {
		return err
	}
	e := &Error{Op: op, err: err}
	var reply redis.Error
	if errors.As(err, &reply) && !errors.Is(err, redis.Nil) {
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

// codeOf returns the code of what Redis answered with; ERR if it is not known.
func codeOf(text string) string {
	code, _, _ := strings.Cut(strings.TrimPrefix(text, "ERR "), " ")
	if slices.Contains(codes, code) {
		return code
	}
	return "ERR"
}

// connectionCommands are what go-redis sends on a new connection, which may be
// refused.
var connectionCommands = []string{"auth", "client", "client|setinfo", "cluster", "hello"}

var quoted = regexp.MustCompile(`'([a-z|]+)' command`)

// commandOf returns the command that the text of NOPERM names.
func commandOf(text string) string {
	match := quoted.FindStringSubmatch(text)
	if match == nil || !slices.Contains(slices.Concat(commands(), clusterCommands, connectionCommands), match[1]) {
		return ""
	}
	return match[1]
}

// Error says what was being done, and Redis' error code or the cause.
func (e *Error) Error() string {
	switch {
	case e.Command != "":
		return e.Op + ": " + e.Code + ": the Redis user may not use " + strings.ToUpper(e.Command)
	case e.Code == "NOPERM":
		return e.Op + ": NOPERM: the Redis user has no right to this key or channel"
	case e.Code == "MOVED":
		return e.Op + ": Redis answers MOVED: this is a Redis Cluster, so add addr= with another of its hosts to REDIS_URL, as in redis://one:6379?addr=two:6379"
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

// Unwrap returns the error of go-redis, for errors.Is. Its text may hold a
// secret.
func (e *Error) Unwrap() error { return e.err }

// notServing are the codes of a server that serves nobody now, or not this
// user: to this program that is as if it did not answer.
var notServing = []string{"LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS"}

// Answered reports whether Redis answered with an error about the command
// rather than about itself.
func (e *Error) Answered() bool { return e.Code != "" && !slices.Contains(notServing, e.Code) }

// OfRecord reports whether something else than a record is stored under the
// key: that concerns one portal only.
func (e *Error) OfRecord() bool { return e.Code == "WRONGTYPE" }

// IsCanceled reports whether err exists because the one who asked has left.
func IsCanceled(err error) bool { return errors.Is(err, context.Canceled) }

// ErrShape means an answer that is not of the shape that the program expects.
const ErrShape = secret.Fault("its answer has another shape than expected")
