package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hubspot-auth-proxy/proxy/intercept"
)

const caGenerateManual = `Makes a CA for clients whose base URL cannot be changed: ca.pem, the certificate that
these clients must trust, and ca-key.pem, its key, for the proxy only. The CA is valid
for 5 years, and can sign for names in hubapi.com and hubspot.com only. DIR is created
if it does not exist. Existing files are not overwritten. Redis is not used.

  hubspot-auth-proxy ca generate --out /etc/hubspot-auth-proxy

Anyone with the key can impersonate HubSpot to clients that trust the CA.
`

const caGenerated = `{cert} is the certificate, which clients must trust.
{key} is its key, which only the proxy may read.

Set both in the proxy's environment, and restart the proxy:

  INTERCEPT_CA_CERT_FILE={cert}
  INTERCEPT_CA_KEY_FILE={key}

Give the client the proxy's address, a client key and the certificate. For portal
62515 and a program in Node.js:

  HTTPS_PROXY=http://62515:hap_…@PROXY:8080
  NODE_EXTRA_CA_CERTS={cert}

The CA expires on {end}.
`

func caGenerate(flags *flag.FlagSet) action {
	out := flags.String("out", "", "write the files into the folder `DIR`")
	return func(_ context.Context, c *call) error {
		if *out == "" {
			return usageError{problem: "--out is missing: give the folder for the two files"}
		}
		folder, err := filepath.Abs(*out) // for the settings, because the proxy may start in another folder
		if err != nil {
			return fmt.Errorf("find the folder for the CA: %w", err)
		}
		now := time.Now()
		certificate, key, err := intercept.Generate(now)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return fmt.Errorf("make the folder for the CA: %w", err)
		}
		certPath, keyPath := filepath.Join(folder, "ca.pem"), filepath.Join(folder, "ca-key.pem")
		if err := writeNew(keyPath, []byte(key.Reveal()), 0o600); err != nil {
			return err
		}
		if err := writeNew(certPath, certificate, 0o644); err != nil {
			return errors.Join(err, os.Remove(keyPath))
		}
		authority, faults := intercept.Load(certificate, key, "", nil)
		if faults != nil {
			return fmt.Errorf("check the new CA: %s", faults[0].Problem)
		}
		_, err = strings.NewReplacer("{cert}", certPath, "{key}", keyPath, "{end}", authority.NotAfter().Format(time.DateOnly)).WriteString(c.stdout, caGenerated)
		return err
	}
}

// writeNew writes a file, unless it exists. If writing fails, writeNew removes the file.
func writeNew(path string, content []byte, mode fs.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists, and is not overwritten, because clients may trust its CA; give another folder with --out, or move the file", path)
	}
	if err != nil {
		return fmt.Errorf("write the CA: %w", err)
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(fmt.Errorf("write the CA: %w", err), os.Remove(path))
	}
	return nil
}
