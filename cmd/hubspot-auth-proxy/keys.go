package main

import (
	"context"
	"errors"
	"fmt"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/seal"
)

const keysGenerateManual = `Prints a new key for ENCRYPTION_KEYS, alone on its line. ID names it, in 1 to 32
letters, digits, - and _. No Redis is needed.

  ENCRYPTION_KEYS=$(hubspot-auth-proxy keys generate 2026a)
  ENCRYPTION_KEYS=$ENCRYPTION_KEYS,$(hubspot-auth-proxy keys generate 2026b)

Whoever has the keys and Redis has the tokens; whoever loses the keys has to
connect every portal again. Keep them where secrets are kept, and not in Redis.
`

const generated = `This is a key for ENCRYPTION_KEYS, here named %[1]s:…. It is not kept here, so store it now.
As the first key, step by step, each in all proxies, one after the other:
  1. ENCRYPTION_KEYS=plain,%[1]s:…   they can open the key, and seal nothing yet.
  2. ENCRYPTION_KEYS=%[1]s:…,plain   they seal with it.
  3. Run hubspot-auth-proxy keys rotate, with the same ENCRYPTION_KEYS.
  4. ENCRYPTION_KEYS=%[1]s:…         what is not sealed is not used any more.
In place of another key:
  1. ENCRYPTION_KEYS=OLD,%[1]s:…     they can open it.
  2. ENCRYPTION_KEYS=%[1]s:…,OLD     they seal with it.
  3. Run hubspot-auth-proxy keys rotate, with the same ENCRYPTION_KEYS.
  4. ENCRYPTION_KEYS=%[1]s:…
`

func keysGenerate(_ context.Context, c *call) error {
	key, err := seal.Generate(c.args[0])
	if err != nil {
		return usageError{err.Error(), "keys generate"}
	}
	if _, err := fmt.Fprintln(c.stdout, key.Reveal()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.stderr, generated, c.args[0])
	return err
}

const keysRotateManual = `Seals the secrets of every portal anew with the first key of ENCRYPTION_KEYS, while
proxies serve. All of them must know that key already. It may be run again: what
is sealed with that key stays as it is. Exit status 1: a portal could not be sealed
anew, it is named; keep the old keys until it can.

  hubspot-auth-proxy keys rotate
`

func keysRotate(ctx context.Context, c *call) error {
	return c.operate(ctx, func(settings config.Config, s *store) error {
		if !settings.Keys().Seals() {
			return config.Faults{{Name: "ENCRYPTION_KEYS", Problem: "has no first key to seal with", Remedy: "set it as the proxies have it; keys generate makes a key, and prints the steps"}}
		}
		ids, err := s.source.Portals(ctx)
		if err != nil {
			return err
		}
		sums, err := c.sealAll(ctx, s.source, ids)
		if err != nil {
			return err
		}
		for _, failure := range sums.failed {
			fmt.Fprintln(c.stderr, failure)
		}
		_, err = fmt.Fprintf(c.stdout, "Key %s: %s sealed anew, %d had been already, %d failed.\n",
			settings.Keys().Current(), count(sums.anew, "portal"), sums.already, len(sums.failed))
		if len(sums.failed) > 0 {
			return fmt.Errorf("%s could not be sealed anew; keep the old keys in ENCRYPTION_KEYS", count(len(sums.failed), "portal"))
		}
		return err
	})
}

// sealed is what sealing anew has come to.
type sealed struct {
	anew, already int
	failed        []string
}

// sealAll seals each portal's secrets anew, and goes on over failures.
func (c *call) sealAll(ctx context.Context, source *tokens.Source, ids []string) (sums sealed, err error) {
	step, end := progress(c.stderr, len(ids), "sealing portals")
	defer end()
	for _, id := range ids {
		if ctx.Err() != nil {
			return sums, errors.New("interrupted: run it again for the rest")
		}
		if err := sums.add(ctx, source, id); err != nil {
			return sums, fmt.Errorf("run it again for the rest: %w", err)
		}
		step()
	}
	return sums, nil
}

// add seals one portal's secrets anew. One that was removed has none. The error
// is Redis'.
func (r *sealed) add(ctx context.Context, source *tokens.Source, id string) error {
	p, err := source.Show(ctx, id)
	var anew bool
	if err == nil && p.State != tokens.Removed {
		anew, err = source.Reseal(ctx, id, actor("keys rotate"))
	}
	switch {
	case errors.Is(err, tokens.ErrNotConnected), p.State == tokens.Removed:
	case tokens.IsRedisError(err):
		return err
	case err != nil:
		r.failed = append(r.failed, titled(id, p.Name)+": "+shown(err.Error()))
	case anew:
		r.anew++
	default:
		r.already++
	}
	return nil
}
