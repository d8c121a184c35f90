package k8s_test

import (
	"bytes"
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// image has the settings of the image that the Dockerfile's last stage makes.
type image struct {
	Base       string
	User       string
	Env        map[string]string
	Ports      []string
	Entrypoint []string
	Health     []string // of the HEALTHCHECK, as Docker stores it
	Shell      []string // instructions that need a shell, which the image lacks
}

// readDockerfile parses the Dockerfile as Docker does. It fails the test if Docker would
// warn of anything.
func readDockerfile(t *testing.T) []instructions.Stage {
	t.Helper()
	file, err := os.Open("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	result, err := parser.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, warning := range result.Warnings {
		t.Errorf("Dockerfile: %s", warning.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, at []parser.Range) {
		t.Errorf("Dockerfile:%d: %s: %s", at[0].Start.Line, rule, message)
	}})
	stages, _, err := instructions.Parse(result.AST, lint)
	if err != nil {
		t.Fatal(err)
	}
	if len(stages) != 2 {
		t.Fatalf("%d stages, want one that builds and one that runs", len(stages))
	}
	return stages
}

func readImage(t *testing.T) image {
	t.Helper()
	stage := readDockerfile(t)[1]
	made := image{Base: stage.BaseName, Env: map[string]string{}}
	for _, command := range stage.Commands {
		switch c := command.(type) {
		case *instructions.UserCommand:
			made.User = c.User
		case *instructions.EnvCommand:
			for _, pair := range c.Env {
				made.Env[pair.Key] = pair.Value
			}
		case *instructions.ExposeCommand:
			made.Ports = append(made.Ports, c.Ports...)
		case *instructions.HealthCheckCommand:
			made.Health = c.Health.Test
		case *instructions.EntrypointCommand:
			made.Entrypoint = c.CmdLine
			if c.PrependShell {
				made.Shell = append(made.Shell, c.Name())
			}
		case *instructions.RunCommand, *instructions.CmdCommand, *instructions.ShellCommand:
			made.Shell = append(made.Shell, c.Name())
		}
	}
	return made
}

func TestTheImageRunsTheProgramAsNobodyAndWithoutAShell(t *testing.T) {
	want := image{
		Base:       "gcr.io/distroless/static-debian12:nonroot",
		User:       "65532:65532",
		Env:        map[string]string{"LISTEN_ADDR": ":8080", "ADMIN_ADDR": ":8081"},
		Ports:      []string{"8080", "8081"},
		Entrypoint: []string{"/hubspot-auth-proxy"},
		Health:     []string{"CMD", "/hubspot-auth-proxy", "healthcheck"},
	}
	if diff := cmp.Diff(want, readImage(t)); diff != "" {
		t.Error(diff)
	}
}

func TestTheImageIsBuiltByTheGoOfTheModule(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+\.\d+)`).FindSubmatch(mod)
	stage := readDockerfile(t)[0]
	if want := "golang:" + string(version[1]) + "-alpine"; stage.BaseName != want {
		t.Errorf("built in %s, want %s", stage.BaseName, want)
	}
	workflows, err := filepath.Glob("../.github/workflows/*.yml")
	if err != nil || len(workflows) == 0 {
		t.Fatal("no workflows: ", err)
	}
	for _, path := range workflows {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`golang:([0-9.]+)-`).FindAllSubmatch(text, -1) {
			if string(found[1]) != string(version[1]) {
				t.Errorf("%s: tested with Go %s, want %s", path, found[1], version[1])
			}
		}
	}
	if stage.Platform != "$BUILDPLATFORM" {
		t.Errorf("the compiler runs on %q: for another architecture it would be emulated", stage.Platform)
	}
}

func TestTheBuildIsGivenNothingButItsSource(t *testing.T) {
	ignored := readIgnored(t)
	for _, name := range []string{
		".env", "seed.yaml", ".git/config", "README.md", "config/README.md", "Dockerfile", "hubspot-auth-proxy", "k8s/base/deployment.yaml",
		"proxy/proxy_test.go", "cmd/hubspot-auth-proxy/testdata/script/config.txtar", "proxy/nodesdk/node_modules/x/index.js",
	} {
		if !ignored(name) {
			t.Errorf("%s is given to the build", name)
		}
	}
	for _, name := range []string{"go.mod", "go.sum", "cmd/hubspot-auth-proxy/main.go", "tokens/write.lua"} {
		if ignored(name) {
			t.Errorf("%s is kept from the build", name)
		}
	}
}

// readIgnored reads .dockerignore as Docker does, and returns a function that reports
// whether a file is left out of the build.
func readIgnored(t *testing.T) func(name string) bool {
	t.Helper()
	file, err := os.Open("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	patterns, err := ignorefile.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	return func(name string) bool {
		ignored, err := matcher.MatchesOrParentMatches(name)
		if err != nil {
			t.Fatal(err)
		}
		return ignored
	}
}

// copyContext copies the files that Docker would send to the build, and returns their folder.
func copyContext(t *testing.T) string {
	t.Helper()
	ignored, to := readIgnored(t), t.TempDir()
	err := fs.WalkDir(os.DirFS(".."), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".git" && entry.IsDir(): // in a worktree it is a file
			return fs.SkipDir
		case !entry.Type().IsRegular() || ignored(name):
			return nil
		}
		content, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(name)), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

const builtVersion = "1.2.3-image-test"

// building allows one build at a time, because two builds would compile the same packages.
var building sync.Mutex

// buildImage runs the Dockerfile's own build in the folder, and returns the
// program.
func buildImage(t *testing.T, context, arch string) (path string) {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	path = filepath.Join(t.TempDir(), "hubspot-auth-proxy")
	command := exec.CommandContext(t.Context(), "/bin/sh", "-c", strings.Replace(buildLine(t), " -o /hubspot-auth-proxy ", " -o "+path+" ", 1))
	command.Dir = context
	// CI sets GOFLAGS=-race, which must not apply to the image.
	command.Env = append(os.Environ(), "TARGETOS=linux", "TARGETARCH="+arch, "VERSION="+builtVersion, "GOFLAGS=-mod=readonly")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s\n%v\n%s", command, err, output)
	}
	return path
}

// buildLine returns the Dockerfile's only RUN.
func buildLine(t *testing.T) string {
	t.Helper()
	var lines []string
	for _, command := range readDockerfile(t)[0].Commands {
		if run, ok := command.(*instructions.RunCommand); ok {
			lines = append(lines, strings.Join(run.CmdLine, " "))
		}
	}
	if len(lines) != 1 || !strings.Contains(lines[0], " -o /hubspot-auth-proxy ") {
		t.Fatalf("the build is %q, want one line that makes /hubspot-auth-proxy", lines)
	}
	return lines[0]
}

func TestTheImageIsBuiltForEachArchitectureAndNeedsNoLibrary(t *testing.T) {
	t.Parallel()
	context := copyContext(t)
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		path := buildImage(t, context, arch)
		program, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer program.Close()
		if program.Machine != machine {
			t.Errorf("%s: built for %v", arch, program.Machine)
		}
		for _, part := range program.Progs {
			if part.Type == elf.PT_INTERP || part.Type == elf.PT_DYNAMIC {
				t.Errorf("%s: it is linked dynamically: %v", arch, part.Type)
			}
		}
		if arch == runtime.GOARCH {
			checkVersion(t, path)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, []byte(context)) {
			t.Errorf("%s: the program names the folder that it was built in", arch)
		}
		if !bytes.Contains(content, []byte(builtVersion)) {
			t.Errorf("%s: the program does not have its version", arch)
		}
	}
}

func checkVersion(t *testing.T, program string) {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), program, "version").Output()
	if err != nil || !strings.HasPrefix(string(output), "hubspot-auth-proxy "+builtVersion+" ") {
		t.Errorf("version prints %q, %v", output, err)
	}
}
