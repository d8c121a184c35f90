package main

import (
	"io"
	"os"
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
	out := &zapcore.BufferedWriteSyncer{WS: zapcore.AddSync(w), FlushInterval: time.Second}
	core := zapcore.NewCore(newEncoder(settings.LogFormat, w), out, level)
	// What ends the process may leave no second.
	sync := zap.Hooks(func(e zapcore.Entry) error {
		if e.Level >= zapcore.ErrorLevel {
			return out.Sync()
		}
		return nil
	})
	return zap.New(core, sync), func() { _ = out.Stop() }
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
