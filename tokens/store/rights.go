package store

import (
	"context"
	_ "embed"
	"errors"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// rights are the commands that the program sends, directly or in scripts, with arguments. The
// Redis user needs the right to each of them. Commands that every user may send are left out.
// If a package sends a new command, add it here. KEY stands for a key of the program, and
// CHANNEL for a channel.
var rights = []string{
	"del KEY", "exists KEY", "get KEY", "getrange KEY 0 1", "hdel KEY f", "hget KEY f", "hgetall KEY", "hincrby KEY f 1", "hmget KEY f", "hset KEY f v",
	"mget KEY", "mset KEY v", "msetnx KEY v", "pexpire KEY 1", "set KEY v",
	"publish CHANNEL m", "subscribe CHANNEL",
	"eval s 0", "evalsha s 0", "info memory", "ping", "scan 0", "select 0", "time",
}

// clusterCommands are further commands that the program sends to a Redis Cluster.
var clusterCommands = []string{"asking", "cluster|slots"}

// commands returns the names of the commands in rights.
func commands() []string {
	var names []string
	for _, right := range rights {
		name, _, _ := strings.Cut(right, " ")
		names = append(names, name)
	}
	return names
}

// Rules returns the rules of ACL SETUSER for a user that has exactly the rights that the
// program needs. PUBSUB, which lists the names of channels, is not one of them.
func (d Database) Rules() []string {
	rules := []string{"resetkeys", d.keyRule(), "resetchannels", d.channelRule(), "-@all"}
	for _, command := range slices.Concat(commands(), clusterCommands) {
		rules = append(rules, "+"+command)
	}
	return rules
}

func (d Database) keyRule() string { return "~" + globEscape.Replace(d.Prefix) + "*" }

func (d Database) channelRule() string { return "&" + globEscape.Replace(d.Prefix) + "*" }

//go:embed rights.lua
var rightsScript string

var rightsLua = redis.NewScript(rightsScript)

// Missing returns the rules of ACL SETUSER that the client's user lacks, sorted. If all
// commands with a key are refused, the rule for keys is missing; the same holds for channels.
// A server older than Redis 7 cannot report rights; Missing then returns no rules. The error is
// an [*Error].
func (d Database) Missing(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	names := strings.NewReplacer("KEY", d.Prefix+"portal:{1}", "CHANNEL", d.Channel(eventsName, "1"))
	var asked []any
	for _, right := range rights {
		asked = append(asked, names.Replace(right))
	}
	indexes, err := rightsLua.Run(ctx, d.Redis, nil, asked...).Int64Slice()
	if err != nil {
		err = Failure("read the user's rights from Redis", err)
		if refused, is := errors.AsType[*Error](err); is && strings.HasPrefix(refused.Command, "eval") {
			return []string{"+eval", "+evalsha"}, nil
		}
		return nil, err
	}
	var refused []string
	for _, i := range indexes {
		if i < 1 || int(i) > len(rights) {
			return nil, Failure("read the user's rights from Redis", ErrShape)
		}
		refused = append(refused, rights[i-1])
	}
	return d.missing(refused), nil
}

// missing returns the rules that are missing if these rights are refused.
func (d Database) missing(refused []string) []string {
	var rules []string
	for kind, rule := range map[string]string{"KEY": d.keyRule(), "CHANNEL": d.channelRule()} {
		isAllowed := func(right string) bool { return strings.Contains(right, kind) && !slices.Contains(refused, right) }
		if !slices.ContainsFunc(rights, isAllowed) {
			rules = append(rules, rule)
			refused = slices.DeleteFunc(refused, func(right string) bool { return strings.Contains(right, kind) })
		}
	}
	for _, right := range refused {
		name, _, _ := strings.Cut(right, " ")
		rules = append(rules, "+"+name)
	}
	slices.Sort(rules)
	return rules
}
