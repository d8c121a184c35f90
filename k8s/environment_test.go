package k8s_test

import (
	"encoding/base64"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens/secret"
)

// A proxy is one container that runs the proxy.
type proxy struct {
	workload
	container corev1.Container
	env       map[string]string
}

// eachProxy runs check for the proxy of every folder.
func eachProxy(t *testing.T, check func(t *testing.T, folder string, p proxy)) {
	t.Helper()
	for _, folder := range folders(t) {
		t.Run(folder, func(t *testing.T) { check(t, folder, proxyOf(t, folder)) })
	}
}

// proxyOf returns the only proxy of the folder.
func proxyOf(t *testing.T, folder string) proxy {
	t.Helper()
	objects := render(t, folder)
	var found []proxy
	for _, w := range workloads(objects) {
		for _, c := range w.containers() {
			if name, _, _ := strings.Cut(c.Image, ":"); name == "hubspot-auth-proxy" {
				found = append(found, proxy{w, c, environment(t, objects, c)})
			}
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d containers with the proxy", folder, len(found))
	}
	return found[0]
}

// environment returns a container's environment, which the kubelet makes from env and envFrom.
func environment(t *testing.T, objects []runtime.Object, c corev1.Container) map[string]string {
	t.Helper()
	env := map[string]string{}
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef == nil {
			t.Fatalf("%s has its environment from %v, which is no ConfigMap", c.Name, from)
		}
		maps.Copy(env, configMap(t, objects, from.ConfigMapRef.Name))
	}
	for _, one := range c.Env {
		switch from := one.ValueFrom; {
		case from == nil:
			env[one.Name] = expand(one.Value, env)
		case from.ResourceFieldRef != nil && from.ResourceFieldRef.Resource == "limits.memory":
			limit, divisor := c.Resources.Limits.Memory().Value(), from.ResourceFieldRef.Divisor.Value()
			env[one.Name] = strconv.FormatInt((limit+divisor-1)/divisor, 10)
		case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.namespace":
			env[one.Name] = "tools"
		default:
			t.Fatalf("%s has %s from %v, which is neither a memory limit nor the namespace", c.Name, one.Name, from)
		}
	}
	return env
}

var reference = regexp.MustCompile(`\$\(([A-Z_]+)\)`)

// expand replaces $(NAME) by a value that was set before, as the kubelet does.
func expand(text string, env map[string]string) string {
	return reference.ReplaceAllStringFunc(text, func(found string) string {
		if value, ok := env[found[2:len(found)-1]]; ok {
			return value
		}
		return found
	})
}

// settings returns the variables of the proxy, and which of them are secret.
func settings() map[string]bool {
	names := map[string]bool{}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[config.Config]()) {
		if name := field.Tag.Get("env"); name != "" {
			names[name] = field.Type == reflect.TypeFor[secret.Text]()
		}
	}
	return names
}

func TestEveryVariableIsASettingAndNoSecretIsOne(t *testing.T) {
	isSecret := settings()
	eachProxy(t, func(t *testing.T, _ string, p proxy) {
		for _, name := range slices.Sorted(maps.Keys(p.env)) {
			plain, file := strings.CutSuffix(name, "_FILE")
			hidden, known := isSecret[name]
			switch {
			case name == "GOMEMLIMIT", name == "MEMORY_LIMIT_MI", name == "POD_NAMESPACE", file && isSecret[plain]:
			case !known:
				t.Errorf("%s is no setting", name)
			case hidden:
				t.Errorf("%s is in the manifest, but secret: mount a file, and name it by %[1]s_FILE", name)
			}
		}
	})
}

// mounted writes the files of the mounted Secrets that variables name, below root, and
// returns their names by Secret.
func (p proxy) mounted(t *testing.T, root string) map[string][]string {
	t.Helper()
	names := map[string][]string{}
	for _, mount := range p.container.VolumeMounts {
		if mount.SubPath != "" || !mount.ReadOnly {
			t.Errorf("%s is mounted by subPath, which is never updated, or to be written", mount.Name)
		}
		for _, volume := range p.pod.Spec.Volumes {
			if volume.Name != mount.Name || volume.Secret == nil {
				continue
			}
			for variable, path := range p.env {
				if filepath.Dir(path) == mount.MountPath {
					name := filepath.Base(path)
					names[volume.Secret.SecretName] = append(names[volume.Secret.SecretName], name)
					write(t, filepath.Join(root, path), valueOf(variable))
				}
			}
		}
	}
	return names
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o444); err != nil {
		t.Fatal(err)
	}
}

// valueOf returns a possible content of the variable's file.
func valueOf(variable string) string {
	switch variable {
	case "REDIS_URL_FILE":
		return "redis://:password@redis:6379/0\n"
	case "ENCRYPTION_KEYS_FILE":
		return "2026a:" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"
	case "SEED_FILE":
		return "{}\n"
	}
	return "pat-na1-of-nobody\n"
}

// load returns the settings that the proxy has if its files are mounted.
func (p proxy) load(t *testing.T) config.Config {
	t.Helper()
	root := t.TempDir()
	p.mounted(t, root)
	var environ []string
	for name, value := range p.env {
		if strings.HasPrefix(value, "/") {
			value = filepath.Join(root, value)
		}
		environ = append(environ, name+"="+value)
	}
	loaded, err := config.Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func TestTheProxyTakesItsEnvironment(t *testing.T) {
	eachProxy(t, func(t *testing.T, _ string, p proxy) { p.load(t) })
}

func TestTheServiceIsCalledByAllItsNames(t *testing.T) {
	var want []string
	for _, domain := range []string{"tools", "tools.svc", "tools.svc.cluster.local"} {
		want = append(want, "hubspot-auth-proxy."+domain)
	}
	if diff := cmp.Diff(want, proxyOf(t, "base").load(t).AllowedHosts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheProxyListensWhereItIsCalled(t *testing.T) {
	eachProxy(t, func(t *testing.T, folder string, p proxy) {
		loaded := p.load(t)
		want := []string{"127.0.0.1:8080", "127.0.0.1:8081"} // the sidecars'
		if len(p.container.Ports) > 0 {
			want = nil
			for _, port := range p.container.Ports {
				want = append(want, ":"+strconv.Itoa(int(port.ContainerPort)))
			}
		}
		if diff := cmp.Diff(want, []string{loaded.ListenAddr, loaded.AdminAddr}); diff != "" {
			t.Error(diff)
		}
		for _, c := range p.pod.Spec.Containers {
			for _, one := range c.Env {
				if one.Name == "HUBSPOT_BASE_URL" && one.Value != "http://"+loaded.ListenAddr {
					t.Errorf("%s calls %s", c.Name, one.Value)
				}
			}
		}
	})
}

// closing is the time that the proxy may take to end in addition to SHUTDOWN_DELAY and
// SHUTDOWN_TIMEOUT: 40 s for portals that are being connected, and 15 s for renewals and
// tokens that are not stored yet.
const closing = 55 * time.Second

func TestTheProxyMayEndInGoodOrder(t *testing.T) {
	eachProxy(t, func(t *testing.T, _ string, p proxy) {
		loaded := p.load(t)
		needed := loaded.ShutdownDelay + loaded.ShutdownTimeout + closing
		if grace := p.pod.Spec.TerminationGracePeriodSeconds; grace == nil || time.Duration(*grace)*time.Second <= needed {
			t.Errorf("SIGKILL may come before it has ended, which may take %v", needed)
		}
		if p.container.Lifecycle != nil {
			t.Error("the image has no shell for a hook")
		}
	})
	if delay := proxyOf(t, "base").load(t).ShutdownDelay; delay < 5*time.Second {
		t.Errorf("calls come for longer than %v after SIGTERM", delay)
	}
}

func TestTheMemoryLimitIsAMarginAboveGos(t *testing.T) {
	eachProxy(t, func(t *testing.T, _ string, p proxy) {
		limit, err := strconv.ParseFloat(p.env["GOMEMLIMIT"], 64)
		if err != nil {
			t.Fatal(err)
		}
		if share := limit / float64(p.container.Resources.Limits.Memory().Value()); share < 0.9 || share > 0.96 {
			t.Errorf("GOMEMLIMIT is %.3f of the limit", share)
		}
	})
}

var (
	secretCommand = regexp.MustCompile(`create secret generic (\S+)(.*)`)
	secretKey     = regexp.MustCompile(`--from-file=([^=]+)=`)
)

// For a key that the Secret lacks, no file is mounted.
func TestTheCommandsMakeTheSecretsThatAreMounted(t *testing.T) {
	for _, folder := range []string{"base", "examples/sidecar", "examples/job", "examples/redis"} {
		text, err := os.ReadFile(filepath.Join(folder, "kustomization.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		made := map[string][]string{}
		for _, command := range secretCommand.FindAllStringSubmatch(strings.ReplaceAll(string(text), "\\\n#", ""), -1) {
			for _, key := range secretKey.FindAllStringSubmatch(command[2], -1) {
				made[command[1]] = append(made[command[1]], key[1])
			}
			slices.Sort(made[command[1]])
		}
		want := proxyOf(t, folder).mounted(t, t.TempDir())
		for _, keys := range want {
			slices.Sort(keys)
		}
		delete(made, "redis") // Redis' own
		if diff := cmp.Diff(want, made); diff != "" {
			t.Errorf("%s: mounted and made are not the same:\n%s", folder, diff)
		}
	}
}

// Kubernetes ends a sidecar by itself, and only that.
func TestTheSidecarIsOneAndTheSameInAppAndJob(t *testing.T) {
	beside, inJob := proxyOf(t, "examples/sidecar"), proxyOf(t, "examples/job")
	if diff := cmp.Diff(beside.container, inJob.container); diff != "" {
		t.Error(diff)
	}
	for _, p := range []proxy{beside, inJob} {
		first := p.pod.Spec.InitContainers
		if len(first) != 1 || first[0].Name != p.container.Name || first[0].RestartPolicy == nil || *first[0].RestartPolicy != corev1.ContainerRestartPolicyAlways {
			t.Error("the proxy is no sidecar: no init container that is restarted")
		}
		if p.container.StartupProbe == nil {
			t.Error("the app's first call would be too early")
		}
		for _, other := range p.pod.Spec.Containers {
			if len(other.VolumeMounts) > 0 || len(other.Env) != 1 || other.Env[0].Name != "HUBSPOT_BASE_URL" {
				t.Errorf("%s has more than HUBSPOT_BASE_URL", other.Name)
			}
		}
	}
	job := all[*batchv1.Job](render(t, "examples/job"))[0]
	if policy := job.Spec.Template.Spec.RestartPolicy; policy != corev1.RestartPolicyNever {
		t.Errorf("the Job's pod has the restart policy %s", policy)
	}
}
