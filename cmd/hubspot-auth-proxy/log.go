package main

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"hubspot-auth-proxy/config"
)

// newLogger returns the logger of the settings, and what writes out the lines
// that are held back. Lines are written a few at a time, each within a second,
// so that no request waits for a terminal or pipe.
func newLogger(settings config.Config, w io.Writer) (log *zap.Logger, flush func()) {
	level, err := zapcore.ParseLevel(settings.LogLevel)
	if err != nil {
		level = zapcore.InfoLevel // cannot be: config has checked it
	}
	out := &zapcore.BufferedWriteSyncer{WS: stream{w}, FlushInterval: time.Second}
	core := zapcore.NewCore(newEncoder(settings.LogFormat, w), out, level)
	// What ends the process may leave no second.
	sync := zap.Hooks(func(e zapcore.Entry) error {
		if e.Level >= zapcore.ErrorLevel {
			return out.Sync()
		}
		return nil
	})
	// zap would tell that a line could not be written on the standard error
	// stream, as text: among lines of JSON, and mostly where those failed.
	silent := zap.ErrorOutput(zapcore.AddSync(io.Discard))
	return zap.New(core, sync, silent), func() { _ = out.Stop() }
}

// stream is where the log is written.
type stream struct{ io.Writer }

// Sync writes the stream to its disk, if it is a file. Pipes, terminals and
// sockets have none: the system refuses, and nothing is lost.
func (s stream) Sync() error {
	file, ok := s.Writer.(interface{ Sync() error })
	if !ok {
		return nil
	}
	err := file.Sync()
	for _, refused := range []error{syscall.EINVAL, syscall.ENOTTY, syscall.ENOTSUP} {
		if errors.Is(err, refused) {
			return nil
		}
	}
	return err
}

// newEncoder returns the encoder of a format: json, console, or whichever fits
// the writer.
func newEncoder(format string, w io.Writer) zapcore.Encoder {
	options := zap.NewProductionEncoderConfig()
	options.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	options.TimeKey = "time"
	if format == "console" || format == "" && isTerminal(w) {
		options.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		options.EncodeLevel = zapcore.CapitalLevelEncoder
		options.EncodeDuration = zapcore.StringDurationEncoder
		return zapcore.NewConsoleEncoder(options)
	}
	return zapcore.NewJSONEncoder(options)
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
