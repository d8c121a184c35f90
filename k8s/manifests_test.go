package k8s_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func TestEveryManifestIsWhatKubernetesTakes(t *testing.T) {
	checked := 0
	walk(t, func(path string, content []byte) {
		var object struct{ APIVersion, Kind string }
		_ = yaml.Unmarshal(content, &object) // of several, decode reports the fault
		if strings.HasPrefix(object.APIVersion, "kustomize.config.k8s.io/") || object.Kind == "" {
			return
		}
		checked++
		objects, err := decode(content)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if secrets := all[*corev1.Secret](objects); len(secrets) > 0 {
			t.Errorf("%s has a Secret, whose values belong in no repository", path)
		}
	})
	if checked < 8 {
		t.Errorf("only %d files were checked", checked)
	}
}

func TestWhatKubernetesDoesNotKnowIsAFault(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: None}\n"
	if _, err := decode([]byte(service)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"unknown field":             strings.Replace(service, "clusterIP", "clusterIp", 1),
		"field that is there twice": strings.Replace(service, "{clusterIP: None}", "{clusterIP: None, clusterIP: None}", 1),
		"unknown kind":              strings.Replace(service, "Service", "Servant", 1),
		"fault in a second object":  service + "---\n" + strings.Replace(service, "spec", "specs", 1),
		"wrong type":                strings.Replace(service, "None", "[None]", 1),
	} {
		if _, err := decode([]byte(text)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestEveryFolderRenders(t *testing.T) {
	for _, folder := range folders(t) {
		if len(render(t, folder)) == 0 {
			t.Errorf("%s renders to nothing", folder)
		}
	}
}
