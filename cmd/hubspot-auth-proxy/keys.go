package main

import (
	"context"
	"errors"
	"fmt"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/seal"
)

const keysGenerateManual = `Prints a new key for ENCRYPTION_KEYS, alone on its line. ID is the key's name: 1 to 32
letters, digits, - and _. Redis is not used.

  ENCRYPTION_KEYS=$(hubspot-auth-proxy keys generate 2026a)
  ENCRYPTION_KEYS=$ENCRYPTION_KEYS,$(hubspot-auth-proxy keys generate 2026b)

Anyone with the keys and the data in Redis can read the tokens. If you lose the keys,
you must connect every portal again. Store the keys with your other secrets, and not in
Redis.
`

const generated = `This is a key for ENCRYPTION_KEYS; %[1]s:… stands for it below. It is not stored, so store it now.
If it is your first key, take these steps, each in all proxies, one after the other:
  1. ENCRYPTION_KEYS=plain,%[1]s:…   Proxies can open what the key seals, and seal nothing yet.
  2. ENCRYPTION_KEYS=%[1]s:…,plain   Proxies seal with the key.
  3. Run hubspot-auth-proxy keys rotate, with the same ENCRYPTION_KEYS.
  4. ENCRYPTION_KEYS=%[1]s:…         Proxies do not use unsealed secrets any more.
If it replaces another key:
  1. ENCRYPTION_KEYS=OLD,%[1]s:…     Proxies can open what the key seals.
  2. ENCRYPTION_KEYS=%[1]s:…,OLD     Proxies seal with the key.
  3. Run hubspot-auth-proxy keys rotate, with the same ENCRYPTION_KEYS.
  4. ENCRYPTION_KEYS=%[1]s:…
`

func keysGenerate(_ context.Context, c *call) error {
	key, err := seal.Generate(c.args[0])
	if err != nil {
		return usageError{problem: err.Error()}
	}
	if _, err := fmt.Fprintln(c.stdout, key.Reveal()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.stderr, generated, c.args[0])
	return err
}

const keysRotateManual = `Seals the secrets of every portal again, with the first key of ENCRYPTION_KEYS, while
proxies serve. All proxies must already have that key. If one of the proxies that run
does not have it, nothing changes. A proxy that was killed counts for another minute.
Secrets that the key has sealed stay as they are, so the command can be repeated. If a
portal cannot be sealed again, the command names it, and the exit status is 1. Keep the
old keys until every portal is sealed with the new one.

  hubspot-auth-proxy keys rotate
`

func keysRotate(ctx context.Context, c *call) error {
	return c.operate(ctx, func(s *store) error {
		if !s.settings.Keys().Seals() {
			return config.Faults{{Name: "ENCRYPTION_KEYS", Problem: "has no first key to seal with", Remedy: "set it to the value that the proxies have; keys generate makes a key and prints the steps"}}
		}
		if _, err := s.source.CheckKeys(ctx); err != nil {
			return fmt.Errorf("nothing is sealed again: %w", err)
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
		_, err = fmt.Fprintf(c.stdout, "Key %s: %s sealed again, %d already sealed with it, %d failed.\n",
			s.settings.Keys().Current(), count(sums.again, "portal"), sums.already, len(sums.failed))
		if len(sums.failed) > 0 {
			return fmt.Errorf("%s could not be sealed again; keep the old keys in ENCRYPTION_KEYS", count(len(sums.failed), "portal"))
		}
		return err
	})
}

// sealed counts the portals that keys rotate has handled.
type sealed struct {
	again, already int
	failed         []string
}

// sealAll seals each portal's secrets again. A removed portal has no secrets, and is not
// counted. A failure of one portal is recorded in sums, and sealAll continues. An error of
// Redis ends sealAll, which returns the error.
func (c *call) sealAll(ctx context.Context, source *tokens.Source, ids []string) (sums sealed, err error) {
	step, end := progress(c.stderr, len(ids), "sealing portals")
	defer end()
	for _, id := range ids {
		if ctx.Err() != nil {
			return sums, errors.New("interrupted; run keys rotate again for the remaining portals")
		}
		p, err := source.Show(ctx, id)
		var again bool
		if err == nil && p.State != tokens.Removed {
			again, err = source.Reseal(ctx, id, actor("keys rotate"))
		}
		switch {
		case errors.Is(err, tokens.ErrNotConnected), p.State == tokens.Removed:
		case tokens.IsRedisError(err):
			return sums, fmt.Errorf("run keys rotate again for the remaining portals: %w", err)
		case err != nil:
			sums.failed = append(sums.failed, titled(id, p.Name)+": "+shown(err.Error()))
		case again:
			sums.again++
		default:
			sums.already++
		}
		step()
	}
	return sums, nil
}
