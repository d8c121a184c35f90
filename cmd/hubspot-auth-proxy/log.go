package main

import (
	"io"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/proxy"
)

// newLogger returns the logger of the settings, and flush, which writes the lines that are
// still buffered. Lines of the access log are buffered for a second at most, so that requests
// do not wait for a terminal or a pipe. Any other line may be the last one before the process
// ends, so it is written at once.
func newLogger(settings config.Config, w io.Writer) (log *zap.Logger, flush func()) {
	level, err := zapcore.ParseLevel(settings.LogLevel)
	if err != nil {
		level = zapcore.InfoLevel // not reached, because config has checked the level
	}
	// The struct hides the method Sync of a file. Without Sync, a line is not forced to the
	// disk. The line still survives the end of the process, because the system has it.
	out := &zapcore.BufferedWriteSyncer{WS: zapcore.AddSync(struct{ io.Writer }{w}), FlushInterval: time.Second}
	core := zapcore.NewCore(newEncoder(settings.LogFormat, w), out, level)
	sync := zap.Hooks(func(e zapcore.Entry) error {
		if e.Message != proxy.AccessMessage {
			return out.Sync()
		}
		return nil
	})
	// If a line cannot be written, zap would write a message to standard error. The
	// message would not be JSON, and would usually go to the stream that has just failed.
	silent := zap.ErrorOutput(zapcore.AddSync(io.Discard))
	return zap.New(core, sync, silent), func() { _ = out.Stop() }
}

// newEncoder returns the encoder of a format: json or console. The empty format means console
// if w is a terminal, else json.
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
