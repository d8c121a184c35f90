package k8s_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// A workload is an object that makes pods.
type workload struct {
	name     string
	selector *metav1.LabelSelector // nil means that Kubernetes makes one
	pod      corev1.PodTemplateSpec
}

func workloads(objects []runtime.Object) []workload {
	var found []workload
	for _, object := range objects {
		switch o := object.(type) {
		case *appsv1.Deployment:
			found = append(found, workload{o.Name, o.Spec.Selector, o.Spec.Template})
		case *appsv1.StatefulSet:
			for _, claim := range o.Spec.VolumeClaimTemplates {
				o.Spec.Template.Spec.Volumes = append(o.Spec.Template.Spec.Volumes, corev1.Volume{
					Name:         claim.Name,
					VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name}},
				})
			}
			found = append(found, workload{o.Name, o.Spec.Selector, o.Spec.Template})
		case *batchv1.Job:
			found = append(found, workload{o.Name, o.Spec.Selector, o.Spec.Template})
		}
	}
	return found
}

// containers returns all containers, including init containers.
func (w workload) containers() []corev1.Container {
	return slices.Concat(w.pod.Spec.InitContainers, w.pod.Spec.Containers)
}

// hasPort reports whether a container has the port, by name or number.
func (w workload) hasPort(port intstr.IntOrString) bool {
	return slices.ContainsFunc(w.containers(), func(c corev1.Container) bool { return containerHasPort(c, port) })
}

func containerHasPort(c corev1.Container, port intstr.IntOrString) bool {
	return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool {
		return port.Type == intstr.String && p.Name == port.StrVal || port.Type == intstr.Int && p.ContainerPort == port.IntVal
	})
}

// each runs check for every workload of every folder.
func each(t *testing.T, check func(t *testing.T, objects []runtime.Object, w workload)) {
	t.Helper()
	for _, folder := range folders(t) {
		objects := render(t, folder)
		found := workloads(objects)
		if len(found) == 0 {
			t.Errorf("%s has no workload", folder)
		}
		for _, w := range found {
			t.Run(folder+"/"+w.name, func(t *testing.T) { check(t, objects, w) })
		}
	}
}

func TestPodsAreRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	each(t, func(t *testing.T, _ []runtime.Object, w workload) {
		if result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &w.pod.ObjectMeta, &w.pod.Spec)); !result.Allowed {
			t.Errorf("the Pod Security Standard forbids it: %s", result.ForbiddenDetail())
		}
		// The standard does not require these.
		if is(w.pod.Spec.AutomountServiceAccountToken, true) {
			t.Error("has an account's token")
		}
		if is(w.pod.Spec.EnableServiceLinks, true) {
			t.Error("has other Services in its environment")
		}
		for _, c := range w.containers() {
			if c.SecurityContext == nil || is(c.SecurityContext.ReadOnlyRootFilesystem, false) {
				t.Errorf("%s may write to its image", c.Name)
			}
		}
	})
}

// is reports whether a field has the value. An unset field has the value that the test is about.
func is(field *bool, feared bool) bool { return field == nil || *field == feared }

func TestEveryContainerHasResourcesAndAnImageOfOneVersion(t *testing.T) {
	each(t, func(t *testing.T, _ []runtime.Object, w workload) {
		for _, c := range w.containers() {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				request, limit := c.Resources.Requests[name], c.Resources.Limits[name]
				if request.IsZero() || limit.IsZero() || request.Cmp(limit) > 0 {
					t.Errorf("%s: requests %s of %s, with a limit of %s", c.Name, &request, name, &limit)
				}
			}
			if _, tag, _ := strings.Cut(c.Image, ":"); tag == "" || tag == "latest" {
				t.Errorf("%s has the image %s", c.Name, c.Image)
			}
		}
	})
}

func TestProbesAskPortsThatAreThere(t *testing.T) {
	each(t, func(t *testing.T, _ []runtime.Object, w workload) {
		for _, c := range w.containers() {
			for kind, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
				if probe != nil && probe.HTTPGet != nil && !containerHasPort(c, probe.HTTPGet.Port) {
					t.Errorf("%s has no port for its %s probe: %s", c.Name, kind, &probe.HTTPGet.Port)
				}
			}
		}
	})
}

func TestMountedVolumesAreThere(t *testing.T) {
	each(t, func(t *testing.T, objects []runtime.Object, w workload) {
		var names []string
		for _, volume := range w.pod.Spec.Volumes {
			names = append(names, volume.Name)
			if c := volume.ConfigMap; c != nil {
				configMap(t, objects, c.Name)
			}
		}
		for _, c := range w.containers() {
			for _, mount := range c.VolumeMounts {
				if !slices.Contains(names, mount.Name) {
					t.Errorf("%s mounts %s, which is none of %v", c.Name, mount.Name, names)
				}
			}
		}
	})
}

// configMap returns the data of a ConfigMap, which must exist.
func configMap(t *testing.T, objects []runtime.Object, name string) map[string]string {
	t.Helper()
	for _, c := range all[*corev1.ConfigMap](objects) {
		if c.Name == name {
			return c.Data
		}
	}
	t.Errorf("there is no ConfigMap %s", name)
	return nil
}

func TestSelectorsFindTheirPods(t *testing.T) {
	each(t, func(t *testing.T, _ []runtime.Object, w workload) {
		if w.selector != nil && !selects(t, w.selector, w) {
			t.Errorf("it selects %v", w.selector)
		}
		for _, spread := range w.pod.Spec.TopologySpreadConstraints {
			if !selects(t, spread.LabelSelector, w) {
				t.Errorf("it is spread among %v", spread.LabelSelector)
			}
		}
	})
	for _, folder := range folders(t) {
		objects := render(t, folder)
		for _, s := range all[*corev1.Service](objects) {
			pods := selected(t, objects, s.Name, metav1.SetAsLabelSelector(s.Spec.Selector))
			for _, port := range s.Spec.Ports {
				needPort(t, s.Name, pods, port.TargetPort)
			}
		}
		for _, budget := range all[*policyv1.PodDisruptionBudget](objects) {
			selected(t, objects, budget.Name, budget.Spec.Selector)
		}
		for _, p := range all[*networkingv1.NetworkPolicy](objects) {
			pods := selected(t, objects, p.Name, &p.Spec.PodSelector)
			for _, rule := range p.Spec.Ingress {
				for _, port := range rule.Ports {
					needPort(t, p.Name, pods, *port.Port)
				}
			}
		}
	}
}

func selects(t *testing.T, selector *metav1.LabelSelector, w workload) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return !s.Empty() && s.Matches(labels.Set(w.pod.Labels))
}

// selected returns the workload that the selector selects.
func selected(t *testing.T, objects []runtime.Object, by string, selector *metav1.LabelSelector) workload {
	t.Helper()
	found := slices.DeleteFunc(workloads(objects), func(w workload) bool { return !selects(t, selector, w) })
	if len(found) != 1 {
		t.Fatalf("%s selects the pods of %d workloads", by, len(found))
	}
	return found[0]
}

func needPort(t *testing.T, by string, w workload, port intstr.IntOrString) {
	t.Helper()
	if !w.hasPort(port) {
		t.Errorf("%s is for port %s, which %s does not have", by, &port, w.name)
	}
}

func TestTheServiceOutlivesTheLossOfAPod(t *testing.T) {
	objects := render(t, "base")
	deployment := all[*appsv1.Deployment](objects)[0]
	scaler := all[*autoscalingv2.HorizontalPodAutoscaler](objects)[0]
	if ref := scaler.Spec.ScaleTargetRef; ref.Kind != "Deployment" || ref.Name != deployment.Name {
		t.Errorf("the autoscaler is for %v", ref)
	}
	if least := scaler.Spec.MinReplicas; least == nil || *least < 2 {
		t.Error("the autoscaler may leave one replica")
	}
	if deployment.Spec.Replicas != nil {
		t.Error("every apply would undo what the autoscaler has done")
	}
	if update := deployment.Spec.Strategy.RollingUpdate; update == nil || update.MaxUnavailable.String() != "0" {
		t.Errorf("a rollout leaves fewer replicas: %v", update)
	}
	if budget := all[*policyv1.PodDisruptionBudget](objects)[0].Spec.MaxUnavailable; budget == nil || budget.String() != "1" {
		t.Errorf("%v replicas may be evicted at once", budget)
	}
}

// podsMetrics returns the metrics of pods that the autoscaler uses besides CPU, with the
// component for them.
func podsMetrics(t *testing.T) (found []*autoscalingv2.PodsMetricSource) {
	t.Helper()
	for _, scaler := range all[*autoscalingv2.HorizontalPodAutoscaler](render(t, "examples/autoscaling")) {
		for _, metric := range scaler.Spec.Metrics {
			if metric.Type == autoscalingv2.PodsMetricSourceType {
				found = append(found, metric.Pods)
			}
		}
	}
	return found
}

// One client may have half of MAX_REQUESTS, so more pods must be added before that.
func TestTheAutoscalerFollowsTheRequestsUnderWay(t *testing.T) {
	metrics := podsMetrics(t)
	if len(metrics) != 1 {
		t.Fatalf("it measures %d things of the pods", len(metrics))
	}
	most, err := strconv.Atoi(all[*corev1.ConfigMap](render(t, "base"))[0].Data["MAX_REQUESTS"])
	if target := metrics[0].Target.AverageValue.Value(); err != nil || target < 1 || target > int64(most)*2/5 {
		t.Errorf("it begins at %d requests of %d, %v", target, most, err)
	}
}

func TestTheProxyMayReachDNSRedisAndHTTPSOnly(t *testing.T) {
	for _, folder := range []string{"base", "examples/redis"} {
		for _, p := range all[*networkingv1.NetworkPolicy](render(t, folder)) {
			if p.Name != "hubspot-auth-proxy" {
				continue
			}
			var ports []string
			for _, rule := range p.Spec.Egress {
				if len(rule.Ports) == 0 {
					t.Error("a rule lets out everything")
				}
				for _, port := range rule.Ports {
					protocol := corev1.ProtocolTCP
					if port.Protocol != nil {
						protocol = *port.Protocol
					}
					ports = append(ports, fmt.Sprint(port.Port, "/", protocol))
				}
			}
			if diff := cmp.Diff([]string{"53/UDP", "53/TCP", "6379/TCP", "443/TCP"}, ports); diff != "" {
				t.Errorf("%s: %s", folder, diff)
			}
			if diff := cmp.Diff([]networkingv1.PolicyType{"Ingress", "Egress"}, p.Spec.PolicyTypes); diff != "" {
				t.Errorf("%s: %s", folder, diff)
			}
		}
	}
}
